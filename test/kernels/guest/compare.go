package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// compare says in what the life that was told of c is not the one that its runtime tells.
func compare(c *container, told []v1alpha1.NodeContainer) error {
	wrong := []error{differ("told as", transitions(told), "Creating → Created → Running → Stopped")}
	for _, o := range told {
		wrong = append(wrong, differ("name", o.Name, told[0].Name), incomplete(o.Status.Conditions))
		if o.Status.State != v1alpha1.StateCreating {
			wrong = append(wrong, differ("pid", int(o.Status.PID), c.pid))
		}
		if o.Status.State != v1alpha1.StateStopped && o.Status.ExitCode != nil {
			wrong = append(wrong, fmt.Errorf("exit code %d while it is %s", *o.Status.ExitCode, o.Status.State))
		}
	}

	o := told[len(told)-1]
	wrong = append(wrong, differ("runtime", o.Spec.Runtime.Name, filepath.Base(c.runtime)),
		differ("bundle", o.Spec.Bundle, c.bundle), differ("entrypoint", o.Spec.Entrypoint, "/probe"),
		differ("its own user namespace", o.Spec.Security.UserNamespace, c.userns))
	return errors.Join(append(wrong, compareEnd(c, o.Status), comparePlace(c, o.Status))...)
}

// compareEnd says in what the end of c was another one.
func compareEnd(c *container, s v1alpha1.NodeContainerStatus) error {
	reason := c.reason
	switch {
	case reason != "":
	case c.code == 0:
		reason = v1alpha1.StopCompleted
	default:
		reason = v1alpha1.StopError
	}
	wrong := []error{differ("reason", s.Reason, reason), differ("signal", int(s.Signal), c.signal),
		differ("OOM-killed", s.OOMKilled, c.oom)}

	if s.ExitCode == nil {
		wrong = append(wrong, errors.New("no exit code"))
	} else {
		wrong = append(wrong, differ("exit code", int(*s.ExitCode), c.code))
	}
	if s.CreateTime == nil || s.StartTime == nil || s.FinishTime == nil ||
		s.StartTime.Before(s.CreateTime) || s.FinishTime.Before(s.StartTime) {
		wrong = append(wrong, fmt.Errorf("times %v, %v, %v", s.CreateTime, s.StartTime, s.FinishTime))
	}
	return errors.Join(wrong...)
}

// comparePlace says in what c was in another cgroup or in other namespaces. Those of a container that ends before anybody
// can look are only known not to be this process's own, but for the user namespace.
func comparePlace(c *container, s v1alpha1.NodeContainerStatus) error {
	var wrong []error
	if n := s.Namespaces; len(s.HostNamespaces) > 0 || n.Cgroup == 0 || n.IPC == 0 || n.Mount == 0 || n.Network == 0 ||
		n.PID == 0 || n.UTS == 0 || (n.User != 0) != c.userns {
		wrong = append(wrong, fmt.Errorf("namespaces %+v, the node's own: %v", n, s.HostNamespaces))
	}
	if c.namespaces != nil {
		wrong = append(wrong, differ("namespaces", s.Namespaces, *c.namespaces))
	}

	if c.cgroup != 0 {
		return errors.Join(append(wrong, differ("cgroup", s.CgroupID, c.cgroup))...)
	}
	own, err := inode("/sys/fs/cgroup")
	if s.CgroupID == 0 || s.CgroupID == own {
		wrong = append(wrong, fmt.Errorf("cgroup %d", s.CgroupID))
	}
	return errors.Join(append(wrong, err)...)
}

func differ[T comparable](what string, got, want T) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s %v, want %v", what, got, want)
}

// incomplete says which condition does not hold. One that is always there is Observed.
func incomplete(conditions []metav1.Condition) error {
	if !meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionObserved) {
		return errors.New("it is not Observed")
	}
	for _, c := range conditions {
		if c.Status != metav1.ConditionTrue {
			return fmt.Errorf("%s is %s: %s", c.Type, c.Status, c.Message)
		}
	}
	return nil
}

// transitions names the states that were told, each once.
func transitions(told []v1alpha1.NodeContainer) string {
	var s []string
	for _, o := range told {
		if len(s) == 0 || s[len(s)-1] != string(o.Status.State) {
			s = append(s, string(o.Status.State))
		}
	}
	return strings.Join(s, " → ")
}
