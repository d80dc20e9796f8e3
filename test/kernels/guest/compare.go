package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// compare says in what the life that was told of c is not the one that its runtime tells.
func compare(c *container, told []v1alpha1.NodeContainer) error {
	wrong := []error{differ("told as", transitions(told), "Creating → Created → Running → Stopped")}
	for _, o := range told {
		wrong = append(wrong, differ("name", o.Name, told[0].Name), incomplete(o.Status.Conditions))
	}
	o := told[len(told)-1]
	wrong = append(wrong, differ("runtime", o.Spec.Runtime.Name, filepath.Base(c.runtime)),
		differ("bundle", o.Spec.Bundle, c.bundle), differ("entrypoint", o.Spec.Entrypoint, "/probe"),
		differ("pid", int(o.Status.PID), c.pid))
	if o.Status.ExitCode == nil {
		wrong = append(wrong, errors.New("no exit code"))
	} else {
		wrong = append(wrong, differ("exit code", int(*o.Status.ExitCode), c.code))
	}
	if c.cgroup != 0 {
		wrong = append(wrong, differ("cgroup", uint64(o.Status.CgroupID), c.cgroup))
	}
	if n := o.Status.Namespaces; n.PID == 0 || n.Mount == 0 || n.Network == 0 || n.User == 0 {
		wrong = append(wrong, fmt.Errorf("namespaces %+v", n))
	}
	if s := o.Status; s.StartTime == nil || s.StartTime.Before(s.CreateTime) || s.FinishTime.Before(s.StartTime) {
		wrong = append(wrong, fmt.Errorf("times %v, %v, %v", s.CreateTime, s.StartTime, s.FinishTime))
	}
	return errors.Join(wrong...)
}

func differ[T comparable](what string, got, want T) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s %v, want %v", what, got, want)
}

// incomplete says which condition does not hold.
func incomplete(conditions []metav1.Condition) error {
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
