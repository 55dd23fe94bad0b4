package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
)

// greet tells people how to connect, where the data is, and how to stop.
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
		where = "in memory, gone when this process ends; -bucket gs://name/prefix or file:///folder keeps it"
	}
	fmt.Fprintf(out, "data      %s\n", where)
	durable := ", and everything becomes durable"
	if c.replica {
		durable = "" // it writes nothing
	}
	fmt.Fprintf(out, "stop      Ctrl-C or SIGTERM: running statements get %v to finish%s\n", c.grace, durable)
}

// reachable is an address usable by a client on this machine.
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
