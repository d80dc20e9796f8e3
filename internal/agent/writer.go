package agent

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/desired"
	"github.com/containerhook/containerhook/internal/event"
)

const (
	// coalesceFor is how long a change of status waits for the next one: a container that lives shorter is one create
	// and one status.
	coalesceFor = 250 * time.Millisecond
	// writers is how many writes are under way at once, so that one slow answer does not stop the others.
	writers = 4
	// beatEvery is how often the agent says that it is there.
	beatEvery = time.Minute
)

// Writer keeps the API equal to a Set: each object is created at once, and its status follows. It knows what it has
// written, and reads nothing: its only rights are to create and to patch.
//
// While the API is away nothing is lost but what the Set drops; afterwards each object is written once, as it is then.
type Writer struct {
	set     *desired.Set
	options *WriterOptions
	api     *api
	queue   workqueue.TypedRateLimitingInterface[string] // names of objects
	pause   *pause

	suspended atomic.Bool // no object is to be created
	heard     func()      // the API has answered how the agent does: suspended is known
	isHeard   <-chan struct{}
}

// WriterOptions are what a Writer must know besides its Set. All but ObservedSince are required.
type WriterOptions struct {
	Config   *rest.Config // of an agent's service account; its limits of rate are the Writer's
	NodeName string
	Version  string
	BootID   string
	// ObservedSince is since when the node's containers are known; zero where that is not known.
	ObservedSince time.Time
	// Save writes the checkpoint. It is called before each create, which goes on whatever it says.
	Save func() error
	// Status is how the hook does. Safe for concurrent use.
	Status  func() event.Status
	Metrics prometheus.Registerer
}

// NewWriter returns a Writer of a Set. Nothing is sent before Run. It is an error where the token in Config is of
// another node.
func NewWriter(set *desired.Set, o WriterOptions) (*Writer, error) {
	w := &Writer{set: set, options: &o, pause: newPause(), queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, 5*time.Minute))}
	heard := make(chan struct{})
	w.isHeard, w.heard = heard, sync.OnceFunc(func() { close(heard) })
	var err error
	w.api, err = newAPI(&o, w.pause.ended)
	return w, err
}

// Run writes until ctx ends. It never gives up. Changed must not be called afterwards.
func (w *Writer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, w.queue.ShutDown)()
	w.writeAll() // what the checkpoint brought
	for range writers {
		group.Go(func() error { w.work(ctx); return nil })
	}
	group.Go(func() error { w.beat(ctx); return nil })
	return group.Wait()
}

// Changed has an object of the Set written soon. It never blocks.
func (w *Writer) Changed(name string) {
	if w.set.Begin(name) {
		w.queue.Add(name)
		return
	}
	w.queue.AddAfter(name, coalesceFor)
}

func (w *Writer) writeAll() {
	for _, name := range w.set.BeginAll() {
		w.queue.Add(name)
	}
}

func (w *Writer) work(ctx context.Context) {
	log := logr.FromContextOrDiscard(ctx)
	select { // an agent that begins does not know yet whether it may create
	case <-w.isHeard:
	case <-ctx.Done():
	}
	for {
		name, down := w.queue.Get()
		if down {
			return
		}
		leave := w.pause.enter(ctx)
		err := w.write(ctx, name)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			w.queue.Forget(name)
		case isTheirs(err): // the object's own fault: the others go on
			log.Error(err, "The API refuses an object", "name", name)
			w.pause.ended()
			w.queue.AddRateLimited(name)
		default:
			if d := w.pause.failed(err); d > 0 {
				log.Error(err, "Not written; all is tried again", "after", d)
			}
			w.queue.Add(name)
		}
		leave()
		w.queue.Done(name)
	}
}

// write makes one write towards what the Set wants of a name.
func (w *Writer) write(ctx context.Context, name string) error {
	object, created := w.set.Next(name)
	switch {
	case object == nil:
		return nil
	case !created:
		return w.create(ctx, object)
	}
	if object.Status.Reason == v1alpha1.StopExitUnknown {
		// It may have been seen, by an agent that could not note it any more.
		stored, err := w.api.read(ctx, object)
		if err == nil && stored.Status.State == v1alpha1.StateStopped {
			w.set.Settled(object)
			return nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	err := w.api.applyStatus(ctx, object)
	if apierrors.IsNotFound(err) {
		if object.Status.State != v1alpha1.StateStopped { // somebody deleted it, and it lives
			w.set.Created(name, false)
			w.queue.Add(name)
			return nil
		}
		err = nil
	}
	if err == nil {
		w.set.Settled(object)
	}
	return err
}

func (w *Writer) create(ctx context.Context, object *v1alpha1.NodeContainer) error {
	if w.suspended.Load() {
		return nil // writeAll comes when it may be
	}
	_ = w.options.Save() // an object that no checkpoint knows would be nobody's after a crash; who saves logs errors
	if err := w.api.create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	w.set.Created(object.Name, true)
	w.queue.AddAfter(object.Name, coalesceFor)
	return nil
}

// beat says now and then, and when it begins to be different, how the agent does, and learns whether it may create.
func (w *Writer) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last v1alpha1.NodeContainerAgentStatus
	for {
		now := time.Now()
		next := agentStatus(w.options, w.set.Counts(), w.suspended.Load(), last.Conditions, now)
		if isNews(&last, &next) && !w.pause.isOn() {
			w.beatOnce(ctx, &last, next)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beatOnce writes next, and notes it as last.
func (w *Writer) beatOnce(ctx context.Context, last *v1alpha1.NodeContainerAgentStatus, next v1alpha1.NodeContainerAgentStatus) {
	answer, made, err := w.api.applyAgent(ctx, next)
	if made {
		// Whoever deleted it deleted all of this node: with the node, or with the definitions.
		w.set.Unsettle()
		w.writeAll()
	}
	log := logr.FromContextOrDiscard(ctx)
	switch {
	case err == nil:
		*last = next
		was := w.suspended.Swap(answer.Spec.SuspendCreates)
		w.heard()
		if was && !answer.Spec.SuspendCreates {
			w.writeAll()
		}
	case ctx.Err() != nil:
	case isTheirs(err):
		*last = next // again in a minute; containers are written meanwhile
		w.heard()
		log.Error(err, "How the agent does was refused")
	default:
		if d := w.pause.failed(err); d > 0 {
			log.Error(err, "How the agent does was not written", "again", d)
		}
	}
}

// isTheirs says whether an error is about one object and comes again with it, and not about the API or the way to it.
func isTheirs(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	switch code := answer.Status().Code; code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}
