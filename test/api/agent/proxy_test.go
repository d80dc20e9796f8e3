package agent

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// proxy is between an agent and its API server. It notes what the API server was asked for, and can answer in its stead.
type proxy struct {
	t         *testing.T
	server    *httptest.Server
	upstream  *url.URL
	transport http.RoundTripper

	mu     sync.Mutex
	asked  []request
	faults func() fault // of the next request; nil for none
}

// request is one that the API server has answered.
type request struct {
	name string // of the object
	what string // create, read, or the state that was written
	code int
}

// newProxy starts a proxy of the API server that config is for.
func newProxy(t *testing.T, config *rest.Config) *proxy {
	t.Helper()
	upstream, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(config)) // the agent's token passes through
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, upstream: upstream, transport: transport}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of agents that are killed
	p.server.StartTLS()
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// tls is how to know the proxy. Without TLS a client would not send its token.
func (p *proxy) tls() rest.TLSClientConfig {
	block := pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}
	return rest.TLSClientConfig{CAData: pem.EncodeToMemory(&block)}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the agent is gone
	}
	p.mu.Lock()
	var harm fault
	if p.faults != nil {
		harm = p.faults()
	}
	p.mu.Unlock()
	if harm != nil {
		harm(w, r, func() { p.pass(httptest.NewRecorder(), r, body) })
		return
	}
	p.pass(w, r, body)
}

// pass asks the API server.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request, body []byte) {
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host, out.Host = "", p.upstream.Scheme, p.upstream.Host, p.upstream.Host
	out.Body = io.NopCloser(bytes.NewReader(body))
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	p.note(r, body, answer.StatusCode)
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

// note keeps a request about a NodeContainer.
func (p *proxy) note(r *http.Request, body []byte, code int) {
	var sent v1alpha1.NodeContainer
	if err := json.Unmarshal(body, &sent); err != nil {
		p.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		return
	}
	about := request{name: sent.Name, what: string(sent.Status.State), code: code}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/apis/containerhook.io/v1alpha1/"), "/")
	switch {
	case kind != "nodecontainers":
		return
	case r.Method == http.MethodPost:
		about.what = "create"
	case string(body) == "{}":
		about.name, about.what = strings.TrimSuffix(rest, "/status"), "read"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, about)
}

// asking returns what was asked of an object, in order, such as "create Running Stopped". What failed has its code.
func (p *proxy) asking(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, r := range p.asked {
		switch {
		case r.name != name:
		case r.code >= 300:
			all = append(all, fmt.Sprintf("%s(%d)", r.what, r.code))
		default:
			all = append(all, r.what)
		}
	}
	return strings.Join(all, " ")
}

// count is how many requests about NodeContainers the API server has answered.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// harm has faults say what happens to each of the requests to come.
func (p *proxy) harm(faults func() fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults
}
