package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// checkEvery is the time between two looks at the cluster.
const checkEvery = 500 * time.Millisecond

// check is `controller check`, which the chart's test runs in a pod: it waits until that pod's own container is a
// NodeContainer, and an error says what it waited for in vain.
func check(ctx context.Context, args []string) error {
	f := pflag.NewFlagSet("controller check", pflag.ContinueOnError)
	kubeconfig := f.String("kubeconfig", "", "the cluster to talk to; empty for the one that this runs in")
	uid := f.String("pod-uid", "", "UID of the pod whose containers must be running and known; required")
	timeout := f.Duration("timeout", time.Minute, "how long to wait for that")
	if err := f.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return err
	} else if err != nil {
		return usageError{err}
	}
	if *uid == "" || f.NArg() > 0 {
		return usageError{errors.New("check wants --pod-uid, and nothing but flags")}
	}
	ctrl.SetLogger(newLogger(0))
	config, err := restConfig(*kubeconfig)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return checkUntil(ctx, c, *uid, *timeout, os.Stdout)
}

// checkUntil looks at the cluster until nothing is missing, and then prints what there is.
func checkUntil(ctx context.Context, c client.Reader, uid string, timeout time.Duration, out io.Writer) error {
	var agents v1alpha1.NodeContainerAgentList
	var containers v1alpha1.NodeContainerList
	missing := errors.New("nothing was answered")
	err := wait.PollUntilContextTimeout(ctx, checkEvery, timeout, true, func(ctx context.Context) (bool, error) {
		if err := c.List(ctx, &agents); err != nil {
			missing = fmt.Errorf("list agents: %w", err)
			return false, nil
		}
		if err := c.List(ctx, &containers, client.MatchingFields{v1alpha1.FieldPodUID: uid}); err != nil {
			missing = fmt.Errorf("list containers of pod %s: %w", uid, err)
			return false, nil
		}
		missing = errors.Join(checkAgents(agents.Items), checkContainers(containers.Items))
		return missing == nil, nil
	})
	if err != nil {
		return fmt.Errorf("after %v: %w", timeout, missing)
	}
	for _, a := range agents.Items {
		fmt.Fprintf(out, "node %s: %s\n", a.Name, strings.Join([]string{
			formatCondition(a.Status.Conditions, v1alpha1.ConditionReady), formatCondition(a.Status.Conditions, v1alpha1.ConditionHooked)}, ", "))
	}
	for _, n := range containers.Items {
		fmt.Fprintf(out, "container %s: %s on %s, pod %s/%s\n", n.Name, n.Status.State, n.Spec.NodeName, n.Spec.Pod.Namespace, n.Spec.Pod.Name)
	}
	return nil
}

// checkAgents says which agents do badly by their own account. One that is silent may be on a node that is down: there
// is always one in a large cluster.
func checkAgents(agents []v1alpha1.NodeContainerAgent) (missing error) {
	if len(agents) == 0 {
		return errors.New("no agent has written yet")
	}
	for _, a := range agents {
		for _, condition := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionHooked} {
			if meta.IsStatusConditionFalse(a.Status.Conditions, condition) {
				missing = errors.Join(missing, fmt.Errorf("agent of node %s: %s", a.Name, formatCondition(a.Status.Conditions, condition)))
			}
		}
	}
	return missing
}

// checkContainers says what is missing of a pod's containers: that there are any, run, and are the pod's.
func checkContainers(containers []v1alpha1.NodeContainer) (missing error) {
	if len(containers) == 0 {
		return errors.New("the pod has no NodeContainer")
	}
	for _, n := range containers {
		if n.Status.State != v1alpha1.StateRunning {
			missing = errors.Join(missing, fmt.Errorf("container %s: state %q", n.Name, n.Status.State))
		}
		if !meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionPodMatched) {
			missing = errors.Join(missing, fmt.Errorf("container %s: %s", n.Name, formatCondition(n.Status.Conditions, v1alpha1.ConditionPodMatched)))
		}
	}
	return missing
}

// formatCondition is a condition in words.
func formatCondition(conditions []metav1.Condition, name string) string {
	c := meta.FindStatusCondition(conditions, name)
	if c == nil {
		return name + " is not known yet"
	}
	return strings.TrimRight(fmt.Sprintf("%s is %s (%s) %s", name, c.Status, c.Reason, c.Message), " ")
}
