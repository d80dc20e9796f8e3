package agent

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// fakeAPI answers as the API server does to what an agent sends, without a network: time is the test's. The real one is
// in test/api.
type fakeAPI struct {
	mu      sync.Mutex
	objects map[string]*v1alpha1.NodeContainer
	agent   *v1alpha1.NodeContainerAgent
	suspend bool
	log     []string                     // writes: "create NAME", "status NAME STATE", "read NAME"
	fault   func(*http.Request) *refusal // nil lets a request pass
	takes   time.Duration
}

func newFakeAPI() *fakeAPI { return &fakeAPI{objects: map[string]*v1alpha1.NodeContainer{}} }

func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	var takes time.Duration
	f.do(func() { takes = f.takes })
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		if r := f.fault(r); r != nil {
			return r.answer(), nil
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/apis/containerhook.io/v1alpha1/"), "/")
	if parts[0] == nodeContainerAgents {
		return f.agents(r, body), nil
	}
	var sent v1alpha1.NodeContainer
	if err := json.Unmarshal(body, &sent); err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest), nil
	}
	if r.Method == http.MethodPost {
		if f.objects[sent.Name] != nil {
			return failure(http.StatusConflict, metav1.StatusReasonAlreadyExists), nil
		}
		f.log = append(f.log, "create "+sent.Name)
		sent.Status = v1alpha1.NodeContainerStatus{}
		f.objects[sent.Name] = &sent
		return answer(http.StatusCreated, sent), nil
	}
	stored := f.objects[parts[1]]
	switch {
	case stored == nil:
		return failure(http.StatusNotFound, metav1.StatusReasonNotFound), nil
	case string(body) == "{}":
		f.log = append(f.log, "read "+parts[1])
	default:
		f.log = append(f.log, "status "+parts[1]+" "+string(sent.Status.State))
		stored.Status = sent.Status
	}
	return answer(http.StatusOK, *stored), nil
}

func (f *fakeAPI) agents(r *http.Request, body []byte) *http.Response {
	var sent v1alpha1.NodeContainerAgent
	if err := json.Unmarshal(body, &sent); err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest)
	}
	switch {
	case r.Method == http.MethodPost:
		f.agent = &sent
	case f.agent == nil:
		return failure(http.StatusNotFound, metav1.StatusReasonNotFound)
	default:
		f.agent.Status = sent.Status
	}
	f.agent.Spec.SuspendCreates = f.suspend
	return answer(http.StatusOK, *f.agent)
}

// do runs a function while no request is answered.
func (f *fakeAPI) do(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
}

// stored returns an object as the API has it, nil where it has none.
func (f *fakeAPI) stored(name string) (c *v1alpha1.NodeContainer) {
	f.do(func() { c = f.objects[name].DeepCopy() })
	return c
}

func (f *fakeAPI) agentStatus() (s v1alpha1.NodeContainerAgentStatus) {
	f.do(func() { s = *f.agent.Status.DeepCopy() })
	return s
}

// writes returns what was written since the last call.
func (f *fakeAPI) writes() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.log, "; ")
	f.log = nil
	return all
}

func answer(code int, object any) *http.Response {
	body, _ := json.Marshal(object) // of our own types
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(body)))}
}

func failure(code int, reason metav1.StatusReason) *http.Response {
	return answer(code, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason})
}

// refusal is an answer that is none: of the API server, with a reason, or of something before it.
type refusal struct {
	code       int
	reason     metav1.StatusReason
	retryAfter string // seconds
}

func (r *refusal) answer() *http.Response {
	if r.reason != "" {
		return failure(r.code, r.reason)
	}
	response := &http.Response{StatusCode: r.code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("no"))}
	if r.retryAfter != "" {
		response.Header.Set("Retry-After", r.retryAfter)
	}
	return response
}

func (f *fakeAPI) check(t *testing.T, want string) {
	t.Helper()
	if got := f.writes(); got != want {
		t.Errorf("written: %s\n   want: %s", got, want)
	}
}
