package kernel

import (
	"fmt"
	"maps"
	"syscall"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/test/machine"
)

// TestGateAndWorkerDieInTurnsWhileContainersCome: no exec fails, none is held for long, each container is reported as one,
// and the marks are those from before.
func TestGateAndWorkerDieInTurnsWhileContainersCome(t *testing.T) {
	rounds := machine.Volume(9, 200)
	n := newNode(t)
	born, by := 0, map[string]int{}
	a := n.startAgent()
	marks := a.marks()
	for round := range rounds {
		gate, worker := a.gate(), a.worker()
		coming := n.newChurn(n.runc, n.crun)
		what := []string{"worker", "gate", "gate and worker"}[round%3]
		n.hold("the "+what+" killed while containers come", gateKilled, func() {
			switch round % 3 {
			case 0:
				restarted := a.log("Worker crashed")
				send(t, worker, syscall.SIGKILL)()
				a.eventually("with another worker", func() error {
					if a.worker() == worker || a.log("Worker crashed") == restarted {
						return fmt.Errorf("it was not restarted")
					}
					return a.probe("/readyz")
				})
				return
			case 1:
				send(t, gate, syscall.SIGKILL)()
			case 2:
				send(t, worker, syscall.SIGKILL)()
				send(t, gate, syscall.SIGKILL)()
			}
			a.checkKilled()
			a = n.startAgent()
		})
		made := coming.end()
		born += len(made)
		t.Cleanup(func() { n.removeAll(made) }) // whatever ends this
		for _, b := range made {
			c := a.wait(b.id, v1alpha1.StateRunning)
			by[seenBy(&c)]++
			a.checkOnce(b.id)
		}
		a.eventually("with all marks", func() error {
			if got := a.marks(); len(got) != len(marks) || round%3 == 0 && !maps.Equal(got, marks) {
				return fmt.Errorf("marked %v, before %v", got, marks)
			}
			return nil
		})
		marks = a.marks() // the heartbeat's is the gate's own
		n.removeAll(made)
		for _, b := range made {
			a.wait(b.id, v1alpha1.StateStopped)
			a.checkOnce(b.id)
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rounds, %d containers: none lost, none doubled; seen by %v", rounds, born, by)
}
