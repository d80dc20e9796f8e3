package agent

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/test/machine"
)

// fault answers instead of the API server. Calling pass has the request carried out all the same.
type fault func(w http.ResponseWriter, r *http.Request, pass func())

// faults are what an API server, or something before it, does on a bad day.
var faults = map[string]fault{
	"too many requests": func(w http.ResponseWriter, _ *http.Request, _ func()) {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	},
	"internal error": func(w http.ResponseWriter, _ *http.Request, _ func()) {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	},
	"internal error, and it was carried out": func(w http.ResponseWriter, _ *http.Request, pass func()) {
		pass()
		http.Error(w, "no reason", http.StatusInternalServerError)
	},
	"conflict": func(w http.ResponseWriter, _ *http.Request, _ func()) {
		refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
	},
	"timeout, and it was carried out": func(w http.ResponseWriter, _ *http.Request, pass func()) {
		pass()
		refuse(w, http.StatusGatewayTimeout, metav1.StatusReasonTimeout)
	},
	"connection closed": func(http.ResponseWriter, *http.Request, func()) {
		panic(http.ErrAbortHandler)
	},
	"connection closed, and it was carried out": func(_ http.ResponseWriter, _ *http.Request, pass func()) {
		pass()
		panic(http.ErrAbortHandler)
	},
}

// silence is one more: no answer at all, until the agent has had enough. It takes long.
func silence(_ http.ResponseWriter, r *http.Request, pass func()) {
	pass()
	<-r.Context().Done()
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason})
}

// dice harm three of ten requests: once one with silence, and then with each fault by turns.
type dice struct {
	mu     sync.Mutex
	rand   *rand.Rand
	thrown map[string]int
	next   int // of the faults in order
}

func (d *dice) throw() fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rand.IntN(10) >= 3 {
		return nil
	}
	if d.thrown["silence"] == 0 {
		d.thrown["silence"]++
		return silence
	}
	names := slices.Sorted(maps.Keys(faults))
	name := names[d.next%len(names)]
	d.next++
	d.thrown[name]++
	return faults[name]
}

// all returns how often each fault was thrown, and of those that were not that.
func (d *dice) all() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	times := maps.Clone(d.thrown)
	for name := range faults {
		times[name] += 0
	}
	return times
}

func TestFaultsInThreeOfTenRequestsConverge(t *testing.T) {
	t.Parallel()
	count := machine.Volume(24, 40)
	n := newNode(t, plane)
	n.startAgent()
	d := &dice{rand: rand.New(rand.NewPCG(1, 2)), thrown: map[string]int{}}
	n.proxy.harm(d.throw)

	want := map[string]fate{}
	var last []string
	for i := range count {
		switch i % 4 {
		case 0: // lives on
			want[n.begin(nil)] = running
		case 1: // is killed
			id := n.begin(nil)
			last = append(last, id)
			want[id] = ended(137)
		default: // lives shorter than the agent waits for more to say, and is gone from the node
			id := n.newID()
			n.runs(id, i)
			want[id] = ended(int32(i))
		}
	}
	n.end(last...)
	took := n.told(2*time.Minute, want)

	harmed, thrown := 0, d.all()
	for name, times := range thrown {
		harmed += times
		if times == 0 {
			t.Errorf("%q never happened", name)
		}
	}
	t.Logf("%d containers, %d requests answered and %d harmed: told %v after the last one: %v", count, n.proxy.count(), harmed,
		took.Round(time.Millisecond), thrown)
	// What was carried out and not told is asked for once more; what is refused because it is there is no write.
	for id := range want {
		c := n.object(id, want[id])
		if stored := n.writesOf(t, c.Name); stored > 4 { // create, Created, Running, Stopped
			t.Errorf("%s was stored %d times: %s", id, stored, n.proxy.asking(c.Name))
		}
	}
}
