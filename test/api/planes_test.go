package api

import (
	"context"
	"errors"
	"testing"

	"github.com/containerhook/containerhook/test/api/controlplane"
)

// atOnce is how many tests of the controller run at once, and how many API servers there are. Such a test waits for most
// of its time, so that there may be more of them than cores.
const atOnce = 4

// planes are the API servers that no parallel test has now; nil stands for one that is not started yet. A controller acts
// on all of a cluster, so each of its tests has one for itself.
var planes = make(chan *controlplane.ControlPlane, atOnce)

// fillPlanes has parallel tests have the API server that there is, too: the others have finished with it by then. It is the
// last to be taken, for a test may take one before it calls t.Parallel.
func fillPlanes() {
	for range atOnce - 1 {
		planes <- nil
	}
	planes <- plane
}

// ownPlane returns an API server that has config/default installed, and nothing else of what tests make. It is of a
// parallel test for the test's time. The test must leave it as it was.
func ownPlane(t *testing.T) *controlplane.ControlPlane {
	t.Helper()
	own := <-planes
	t.Cleanup(func() { planes <- own }) // the first to be registered is the last to run
	if own != nil {
		return own
	}
	started, err := startPlane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own = started
	return own
}

func startPlane(ctx context.Context) (*controlplane.ControlPlane, error) {
	p, err := controlplane.Start(ctx, runDir)
	if err != nil {
		return nil, err
	}
	if err := p.Install(ctx, "default"); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// stopPlanes ends all API servers.
func stopPlanes() (err error) {
	for range atOnce {
		if p := <-planes; p != nil {
			err = errors.Join(err, p.Stop())
		}
	}
	return err
}
