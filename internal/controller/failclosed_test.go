package controller

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Ten minutes in a cluster that has one of everything that is ever deleted.
func TestNothingIsDeletedOnDoubtfulGrounds(t *testing.T) {
	unreachable, unsynced := errors.New("connection refused"), &cache.ErrCacheNotStarted{}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("RBAC"))
	for _, test := range []struct {
		name         string
		cached, live fault
		deletes      int
	}{
		{"all can be read", fault{}, fault{}, 5},
		{"the cache of pods never synced", fault{pods: unsynced}, fault{}, 0},
		{"the cache of nodes never synced", fault{nodes: unsynced}, fault{}, 0},
		{"the cache of pods is empty", fault{pods: errEmpty}, fault{}, 0},
		{"the cache of nodes is empty", fault{nodes: errEmpty}, fault{}, 0},
		{"pods cannot be read", fault{}, fault{pods: unreachable}, 0},
		{"nodes cannot be read", fault{}, fault{nodes: unreachable}, 0},
		{"pods are forbidden", fault{}, fault{pods: forbidden}, 0},
		{"nodes are forbidden", fault{}, fault{nodes: forbidden}, 0},
		{"there are no pods", fault{pods: errEmpty}, fault{pods: errEmpty}, 0},
		{"there are no nodes", fault{nodes: errEmpty}, fault{nodes: errEmpty}, 0},
		{"there is nothing", fault{errEmpty, errEmpty}, fault{errEmpty, errEmpty}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.cached, w.live = test.cached, test.live
				oneOfEverything(t, w)
				w.run(t, 10*time.Minute)
				if len(w.deletes) != test.deletes {
					t.Errorf("%d deletions, want %d: %v", len(w.deletes), test.deletes, w.deletes)
				}
			})
		})
	}
}

// oneOfEverything makes what each of the five reasons to delete is about, and what none is.
func oneOfEverything(t *testing.T, w *world) {
	now := time.Now()
	named := func(name string, changes ...func(*v1alpha1.NodeContainer)) *v1alpha1.NodeContainer {
		return container(append(changes, func(c *v1alpha1.NodeContainer) {
			c.Name, c.Spec.ContainerID, c.CreationTimestamp = name, name, metav1.NewTime(now.Add(-3*time.Hour))
			c.Status.CreateTime = nil
		})...)
	}
	foreign := claims(v1alpha1.ContainerPod{})
	gone := claims(v1alpha1.ContainerPod{Namespace: "default", Name: "gone", UID: "gone", Container: "main"})
	w.create(t, node("n1"), web(hasStatuses(corev1.ContainerStatus{Name: "main", ContainerID: "containerd://c1"}, corev1.ContainerStatus{ContainerID: "containerd://ttl"})),
		container(), // runs
		named("zombie", gone, wasMatched),
		named("ttl", stoppedAt(now.Add(-time.Hour))),
		named("unmatched-ttl", foreign, stoppedAt(now.Add(-2*time.Hour))),
		named("pod-gone", gone, wasMatched, stoppedAt(now)),
		named("on-n2", foreign, func(c *v1alpha1.NodeContainer) { c.Spec.NodeName = "n2" }),
	)
	for i := range 11 {
		w.create(t, named("again-"+string(rune('a'+i)), foreign, stoppedAt(now.Add(time.Duration(i)*time.Second)),
			func(c *v1alpha1.NodeContainer) { c.Spec.Name = "again" }))
	}
}

func TestAPodThatOnlyTheCacheHasLostIsNotGone(t *testing.T) {
	for _, lost := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			other := web(func(p *corev1.Pod) { p.Name, p.UID = "other", "other" }, hasStatuses())
			c := container(wasMatched, stoppedAt(time.Now()), func(c *v1alpha1.NodeContainer) { c.CreationTimestamp = metav1.Now() })
			w.create(t, node("n1"), other, c)
			if lost {
				w.create(t, web())
				w.cachedWithout = "web"
			}
			w.run(t, time.Minute)
			if deleted := len(w.deletes) > 0; deleted == lost {
				t.Errorf("the cache alone lost the pod: %v, and deleted is %v", lost, w.deletes)
			}
		})
	}
}

func TestANodeThatOnlyTheCacheHasLostIsNotGone(t *testing.T) {
	for _, lost := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.create(t, node("n1"), web(), container(func(c *v1alpha1.NodeContainer) { c.Spec.NodeName = "n2" }))
			if lost {
				w.create(t, node("n2"))
				w.cachedWithout = "n2"
			}
			w.run(t, 10*time.Minute)
			if deleted := len(w.deletes) > 0; deleted == lost {
				t.Errorf("the cache alone lost the node: %v, and deleted is %v", lost, w.deletes)
			}
		})
	}
}

// A deletion that was decided before something changed is refused by the API server, and decided anew.
func TestADeletionIsOfWhatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		oneOfEverything(t, w)
		w.run(t, 10*time.Minute)
		for name, seen := range w.deletes {
			if seen.one && (seen.uid == "" || seen.resourceVersion == "") {
				t.Errorf("%s was deleted with UID %q and resourceVersion %q", name, seen.uid, seen.resourceVersion)
			}
		}
		if all, ok := w.deletes["spec.nodeName=n2"]; !ok || all.one {
			t.Errorf("the node that is gone was not deleted at once: %v", w.deletes)
		}
	})
}
