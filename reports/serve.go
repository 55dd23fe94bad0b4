package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"blobpglite/runner/record"
)

// servePage serves the page until the process is interrupted.
func servePage(root, listen string, out io.Writer) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	fmt.Fprintf(out, "http://%s\n", l.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Handler: pageHandler(root), ReadHeaderTimeout: 10 * time.Second}
	unhook := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer unhook()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

// pageHandler renders the page at each request, and serves the pictures next to it.
func pageHandler(root string) http.Handler {
	results := filepath.Join(root, "results")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		page, err := pageOf(results)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	})
	mux.HandleFunc("GET /"+soakFile, func(w http.ResponseWriter, r *http.Request) {
		shown, err := readPictures(results)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case shown.soak == nil:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "image/svg+xml")
			_, _ = io.WriteString(w, shown.soak.SVG)
		}
	})
	mux.HandleFunc("GET /pictures/{name}", func(w http.ResponseWriter, r *http.Request) {
		if path.Ext(r.PathValue("name")) != ".svg" {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, filepath.Join(results, "pictures", filepath.Base(r.PathValue("name"))))
	})
	return mux
}

func pageOf(results string) (string, error) {
	log, err := record.ReadDir(results)
	if err != nil {
		return "", err
	}
	shown, err := readPictures(results)
	if err != nil {
		return "", err
	}
	return renderPage(selectLines(log), shown)
}
