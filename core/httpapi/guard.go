package httpapi

import (
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// A browser on this machine sends requests for any page open in it, and a service on a loopback address cannot otherwise tell such a page
// from its owner. Three checks keep pages out, each against one kind of attack:
//
//	Host           a page whose name was made to resolve to 127.0.0.1 (DNS rebinding) is same-origin to the browser, but gives its name
//	Origin         the browser names a page of another origin (Origin, Sec-Fetch-Site), whatever it sends
//	Content-Type   what a page may send without a preflight (forms, text/plain, no-cors) is never application/json
//
// No answer has a CORS header, so every preflight fails.

// Reasons of refusals in the metric blobpglite_http_refused_total.
const (
	refusedHost        = "host"
	refusedOrigin      = "origin"
	refusedContentType = "content type"
	refusedToken       = "token"
	refusedText        = "text"
	refusedSize        = "size"
	refusedSlow        = "slow body"
	refusedBusy        = "busy"
	refusedConnections = "connections"
)

// guard decides which requests may come in.
type guard struct {
	hosts   map[string]bool // lower case, without port
	anyHost bool
	cross   *http.CrossOriginProtection
	refused *prometheus.CounterVec
}

func newGuard(o Options) *guard {
	g := &guard{
		hosts: map[string]bool{}, anyHost: o.AnyHost, cross: http.NewCrossOriginProtection(),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "blobpglite_http_refused_total", Help: "requests and connections refused by the listener, by reason",
		}, []string{"reason"}),
	}
	for _, host := range o.Hosts {
		g.hosts[hostName(host)] = true
	}
	for _, reason := range []string{
		refusedHost, refusedOrigin, refusedContentType, refusedToken, refusedText, refusedSize, refusedSlow, refusedBusy, refusedConnections,
	} {
		g.refused.WithLabelValues(reason)
	}
	return g
}

// hostName is the name in a Host header or an address, in lower case, without port, brackets and trailing dot.
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), "."))
}

// admit reports whether a request may come in. It answers, with the reason, requests that a foreign web page could have sent.
func (g *guard) admit(w http.ResponseWriter, r *http.Request) bool {
	if !g.knowsHost(r) {
		g.refuse(w, refusedHost, http.StatusMisdirectedRequest,
			"Host %q is not a name of this service: use the address that it listens on, or allow the name with -http-host", r.Host)
		return false
	}
	// The package treats GET as safe; here a GET may open a database.
	asked := *r
	asked.Method = http.MethodPost
	if err := g.cross.Check(&asked); err != nil {
		g.refuse(w, refusedOrigin, http.StatusForbidden, "the request comes from a web page of another origin (Origin %q), and such requests are refused", r.Header.Get("Origin"))
		return false
	}
	return true
}

// knowsHost says whether the Host header names this service: an address of this machine, with any port (it may be a tunnel's), or one of
// the names in Options.Hosts.
func (g *guard) knowsHost(r *http.Request) bool {
	if g.anyHost {
		return true
	}
	name := hostName(r.Host)
	if name == "localhost" || g.hosts[name] {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap() == ip.Unmap()
}

func (g *guard) refuse(w http.ResponseWriter, reason string, status int, format string, args ...any) {
	g.refused.WithLabelValues(reason).Inc()
	err := bad(status, format, args...)
	_, body := describe(err)
	writeJSON(w, status, body)
}

// jsonOnly rejects a missing Content-Type and any but application/json in UTF-8: a page may send those without a preflight.
func jsonOnly(r *http.Request) error {
	given := r.Header.Values("Content-Type")
	if len(given) != 1 {
		return refuseAs(refusedContentType, http.StatusUnsupportedMediaType, "the request has %d Content-Types: send one, application/json", len(given))
	}
	kind, parameters, err := mime.ParseMediaType(given[0])
	if err != nil || kind != "application/json" {
		return refuseAs(refusedContentType, http.StatusUnsupportedMediaType, "Content-Type %q is not supported: send application/json", given[0])
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return refuseAs(refusedContentType, http.StatusUnsupportedMediaType, "Content-Type %q is not supported, because JSON is UTF-8: send application/json", given[0])
		}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refuseAs(refusedContentType, http.StatusUnsupportedMediaType, "Content-Encoding %q is not supported: send the body uncompressed", encoding)
	}
	return nil
}

// refuseAs is a bad request that is counted under a reason of its own.
func refuseAs(reason string, status int, format string, args ...any) error {
	var b *badRequest
	if err := bad(status, format, args...); errors.As(err, &b) {
		b.reason = reason
	}
	return b
}
