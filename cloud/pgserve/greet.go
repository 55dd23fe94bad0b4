package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
)

// greet prints, for people, how to connect, where the data is, and how to stop.
func (c *config) greet(out io.Writer, wire, web string) {
	if wire != "" {
		u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: reachable(wire), Path: "/postgres"}
		if c.password != "" {
			u.User = url.UserPassword("postgres", "PASSWORD") // the real one must not be printed
		}
		if c.requireTLS {
			u.RawQuery = "sslmode=require"
		}
		fmt.Fprintf(out, "connect   psql %q\n", u.String())
	}
	if web != "" {
		fmt.Fprintf(out, "browse    http://%s/\n", reachable(web))
	}
	where := c.bucket
	if where == "" {
		where = "in memory: it ends with this process; -bucket gs://name/prefix or file:///folder keeps it"
	}
	fmt.Fprintf(out, "data      %s\n", where)
	fmt.Fprintf(out, "stop      Ctrl-C, or SIGTERM: what runs may finish for %v, and everything becomes durable\n", c.grace)
}

// reachable is an address that a client on this machine can use.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// progressEvery is how often the progress of a restore is printed.
const progressEvery = 2 * time.Second

// tellProgress prints the progress of a restore that takes long. The function that it returns ends that.
func tellProgress(ctx context.Context, read *store.Counted, clk clock.Clock, out io.Writer) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		of := ""
		for clk.Sleep(ctx, progressEvery) == nil {
			if of == "" {
				of = " "
				if m, _, err := manifest.Load(ctx, read); err == nil && len(m.Layers) > 0 {
					of = fmt.Sprintf(" of about %d MB", m.Layers[len(m.Layers)-1].StoredBytes/1e6)
				}
			}
			fmt.Fprintf(out, "restoring: %d MB%s read\n", read.Ops().BytesDown/1e6, of)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
