package e2e

import (
	"sync"
	"testing"
)

// Most tests wait most of the time, so they run beside each other where one does not disturb the other. In this order:
//
//   - those that call neither of these functions, one after another: what needs all agents, the API server or a machine
//     that does little else;
//   - those that call beside, all at once: their pods come and go, agents and nodes stay as they are;
//   - those that call alone, one on each node at a time: they disturb the node's agent, its kubelet or the node.
//
// The testing package keeps parallel tests until all others have ended; how many run at once is not limited: see run.
var (
	besides sync.WaitGroup // of the tests that call beside
	nodesOf sync.Mutex     // guards taken
	taken   = map[string]*sync.Mutex{}
	judging sync.Mutex // see judged
)

// beside has a test run together with others that leave agents and nodes alone. One that goes on to wait for something
// that nobody disturbs calls release.
func beside(t *testing.T) (release func()) {
	t.Helper()
	besides.Add(1)
	release = sync.OnceFunc(besides.Done)
	t.Cleanup(release)
	t.Parallel()
	return release
}

// alone has a test run when those beside each other have ended, and with no other one on the same node. Of the cluster's
// nodes the test gets one, by its index.
func alone(t *testing.T, index int) (node string) {
	t.Helper()
	node = someNodes(t, index+1)[index]
	t.Parallel()
	besides.Wait()

	nodesOf.Lock()
	mine := taken[node]
	if mine == nil {
		mine = &sync.Mutex{}
		taken[node] = mine
	}
	nodesOf.Unlock()
	mine.Lock()
	t.Cleanup(mine.Unlock)
	return node
}

// judged keeps all other tests from holding or measuring execs until release is called, or the test ends: the nodes of
// make cluster have one runtime, so that whatever an agent holds is held for both.
func judged(t *testing.T) (release func()) {
	t.Helper()
	judging.Lock()
	release = sync.OnceFunc(judging.Unlock)
	t.Cleanup(release)
	return release
}
