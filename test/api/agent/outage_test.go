package agent

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	outage       = time.Minute
	inOutage     = 200              // containers that come, and most of them go
	catchUp      = 15 * time.Second // from the API server's return until it has all
	beforeOutage = 10               // containers that were there, half of which end in it
)

// TestWhatHappensWhileTheAPIServerIsAwayIsToldWhenItIsBack: it is killed, and 200 containers come and go on the node.
func TestWhatHappensWhileTheAPIServerIsAwayIsToldWhenItIsBack(t *testing.T) {
	t.Parallel()
	p, err := startPlane(t.Context(), "default") // as before Kubernetes 1.36, without config/compact
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	n := newNode(t, p)
	n.startAgent("--kubeconfig", n.direct)
	want := map[string]fate{}
	var stay, leave []string
	for i := range beforeOutage {
		id := n.begin(nil)
		want[id] = running
		if i%2 == 0 {
			stay = append(stay, id)
		} else {
			leave = append(leave, id)
		}
	}
	n.told(time.Minute, want)

	p.StopAPIServer()
	back := time.Now().Add(outage)
	n.end(leave...)
	for _, id := range leave {
		want[id] = ended(137)
	}
	inGap := n.churn(inOutage, outage)
	maps.Copy(want, inGap)
	eventually(t, 2*outage, "the outage is over", func() error { return after(back) })
	took := time.Since(back.Add(-outage))
	if err := p.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	slower := busy(t)
	caughtUp := n.told(time.Duration(float64(catchUp)*slower), want)
	t.Logf("away for %v: %d containers came, all is told %v after the API server was ready, busy machine: %.1f times 15 s were allowed",
		took.Round(time.Second), len(inGap), caughtUp.Round(time.Millisecond), slower)

	objects, err := n.objects()
	if err != nil {
		t.Fatal(err)
	}
	for id := range inGap { // one create and one status, however long it lived
		if stored := n.writesOf(t, objects[id].Name); stored != 2 {
			t.Errorf("%s was stored %d times", id, stored)
		}
	}
	for _, id := range stay {
		if stored := n.writesOf(t, objects[id].Name); stored > 3 {
			t.Errorf("%s has not changed, and was stored %d times", id, stored)
		}
	}
}

// busy says by the load how many times slower a machine may be than one on which at most four processes want each core.
func busy(t *testing.T) float64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	var load float64
	if _, err := fmt.Sscan(string(raw), &load); err != nil {
		t.Fatal(err)
	}
	return max(1, load/float64(4*runtime.NumCPU()))
}

// churn makes containers, evenly over some time, and returns what is to be known of them. A tenth lives on, the others
// end with each code there is, and are gone from the node.
func (n *node) churn(count int, over time.Duration) map[string]fate {
	var mu sync.Mutex
	fates := map[string]fate{}
	turns := make(chan int)
	var makers sync.WaitGroup
	for range 4 {
		makers.Go(func() {
			for i := range turns {
				id, f := n.pass(i)
				mu.Lock()
				fates[id] = f
				mu.Unlock()
			}
		})
	}
	tick := time.NewTicker(over / time.Duration(count))
	defer tick.Stop()
	for i := range count {
		turns <- i
		<-tick.C
	}
	close(turns)
	makers.Wait()
	return fates
}

// pass has one container come, and go but for every tenth.
func (n *node) pass(i int) (id string, f fate) {
	id = n.newID()
	code := i % 256
	if i%10 == 0 {
		n.should("create", "--bundle", n.bundle(id, nil, "sleep"), id)
		n.should("start", id)
		return id, running
	}
	_ = n.try("run", "--bundle", n.bundle(id, nil, "exit", strconv.Itoa(code)), id) // runc ends with the container's code
	return id, ended(int32(code))
}
