// Command runemu is a Cloud Run emulator: it runs a service as child processes and treats them as the platform does.
//
//	go run ./cloud/runemu -- ./pgserve -bucket gs://b/p          prints an address, and a line for each event of an instance
//	go run ./cloud/runemu -cpu always -idle 1m -- ./pgserve ...
//	kill -HUP <its pid>                                          deploys the same program as the next revision
//
// Package platform says what it emulates and what it does not. Ctrl-C ends the instances, waits for them, and prints the bill.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"blobpglite/cloud/runemu/platform"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	var o platform.Options
	f := flag.NewFlagSet("runemu", flag.ContinueOnError)
	listen := f.String("listen", "127.0.0.1:8081", "address on which to listen for requests")
	cpu := f.String("cpu", string(platform.InRequests), "when an instance has CPU. requests: only while it has requests; always")
	f.Float64Var(&o.Share, "share", 1, "share of the time for which a process that has CPU runs: 0.5 is half a vCPU")
	f.IntVar(&o.Concurrency, "concurrency", platform.DefaultConcurrency, "how many requests an instance serves at a time")
	f.IntVar(&o.MaxInstances, "max-instances", 1, "how many instances may run at a time")
	f.IntVar(&o.MinInstances, "min-instances", 0, "how many instances are kept when there are no requests")
	f.IntVar(&o.MemoryMiB, "memory", 512, "memory limit of an instance, in MiB")
	f.Float64Var(&o.VCPU, "vcpu", 1, "how many vCPUs of an instance are billed")
	f.DurationVar(&o.Idle, "idle", platform.DefaultIdle, "how long an instance without requests is kept")
	f.DurationVar(&o.Grace, "grace", platform.DefaultGrace, "how long an instance may take between SIGTERM and SIGKILL")
	f.DurationVar(&o.StartDelay, "start-delay", 0, "how long the container itself takes to start")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if f.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "runemu: no program was given: go run ./cloud/runemu [flags] -- program [its flags]")
		return 2
	}
	program, err := exec.LookPath(f.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "runemu:", err)
		return 2
	}
	o.CPU = platform.CPU(*cpu)
	o.Revision = platform.Revision{Name: "rev-1", Program: program, Args: f.Args()[1:]}
	o.Event = func(e platform.Event) { fmt.Println(e) }
	if err := serve(o, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "runemu:", err)
		return 1
	}
	return 0
}

func serve(o platform.Options, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := platform.New(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(err, p.Close(ctx))
	}
	fmt.Printf("http://%s\n", l.Addr())
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	deploys := make(chan os.Signal, 1)
	signal.Notify(deploys, syscall.SIGHUP)
	defer signal.Stop(deploys)
	for n := 2; ; n++ {
		select {
		case <-deploys:
			next := o.Revision
			next.Name = fmt.Sprintf("rev-%d", n)
			if err := p.Deploy(ctx, next); err != nil {
				fmt.Fprintln(os.Stderr, "runemu:", err)
			}
			continue
		case err = <-failed:
		case <-ctx.Done():
		}
		break
	}
	ending, cancel := context.WithTimeout(context.Background(), 2*o.Grace)
	defer cancel()
	closed := p.Close(ending)
	_ = server.Close()
	fmt.Println(p.Bill())
	return errors.Join(err, closed)
}
