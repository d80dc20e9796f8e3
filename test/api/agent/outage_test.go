package agent

import (
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/containerhook/containerhook/test/machine"
)

// beforeOutage is how many containers were there, half of which end in the outage.
const beforeOutage = 10

// catchUp is from the API server's return until it has all. On two idle cores 15 s are enough: up to 6 s until the agent
// tries again, and 400 writes at 50 a second. Where others want the cores it may take three times that, and no more: an
// object that was left to its own backoff, of up to 5 minutes, would.
const catchUp = 45 * time.Second

// TestWhatHappensWhileTheAPIServerIsAwayIsToldWhenItIsBack: it is killed, and containers come and go on the node, for
// longer than the 6.3 s in which the agent's pauses have grown to their longest.
func TestWhatHappensWhileTheAPIServerIsAwayIsToldWhenItIsBack(t *testing.T) {
	t.Parallel()
	outage := time.Duration(machine.Volume(20, 60)) * time.Second
	inOutage := machine.Volume(60, 200)          // containers that come, and most of them go
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
	caughtUp := n.told(catchUp, want)
	t.Logf("away for %v: %d containers came, all is told %v after the API server was ready",
		took.Round(time.Second), len(inGap), caughtUp.Round(time.Millisecond))

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
	n.runs(id, code)
	return id, ended(int32(code))
}
