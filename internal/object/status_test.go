package object

import (
	"slices"
	"testing"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
)

// statusOf converts the hook's words to the API's without a table: they must be the same words.
func TestWordsOfTheAPIAreTheHooks(t *testing.T) {
	for api, hooks := range map[string]string{
		string(v1alpha1.StateCreating): string(event.Creating), string(v1alpha1.StateCreated): string(event.Created),
		string(v1alpha1.StateRunning): string(event.Running), string(v1alpha1.StateStopped): string(event.Stopped),
		string(v1alpha1.StopCompleted): string(event.Completed), string(v1alpha1.StopError): string(event.Failed),
		string(v1alpha1.StopOOMKilled): string(event.OOMKilled), string(v1alpha1.StopExitUnknown): string(event.ExitUnknown),
		string(v1alpha1.StopCreateFailed): string(event.CreateFailed),
		v1alpha1.ReasonHook:               string(event.FromHook), v1alpha1.ReasonListing: string(event.FromListing),
	} {
		if api != hooks {
			t.Errorf("the API says %q, the hook %q", api, hooks)
		}
	}
}

func TestSharedNamespacesAreThoseOfTheSameInode(t *testing.T) {
	host := event.Namespaces{Cgroup: 1, IPC: 2, Mount: 3, Network: 4, PID: 5, UTS: 7} // its user namespace is not told of
	for _, tc := range []struct {
		ns   event.Namespaces
		want []v1alpha1.NamespaceType
	}{
		{host, []v1alpha1.NamespaceType{"Cgroup", "IPC", "Mount", "Network", "PID", "UTS"}},
		{event.Namespaces{Cgroup: 1, IPC: 12, Mount: 13, Network: 4, PID: 15, User: 16, UTS: 17}, []v1alpha1.NamespaceType{"Cgroup", "Network"}},
		{event.Namespaces{Cgroup: 2, IPC: 1}, nil},
		{event.Namespaces{}, nil},
	} {
		if got := sharedWith(host, tc.ns); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: got %q, want %q", tc.ns, got, tc.want)
		}
	}
	if got := sharedWith(event.Namespaces{}, event.Namespaces{}); got != nil {
		t.Errorf("got %q of what is not known", got)
	}
}
