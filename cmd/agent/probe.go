package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/containerhook"
)

// probeTimeout is how long the API server may take to say all that it is asked.
const probeTimeout = 20 * time.Second

// errProbe is that something is missing that the agent needs; the table has said what.
var errProbe = errors.New("this node lacks something that the agent needs")

// probeNode prints what an agent with these options would find, and fails where it would see less than all.
func probeNode(ctx context.Context, o *options) error {
	checks := containerhook.Probe(ctx, containerhook.Options{HostRoot: o.hostRoot, RuntimePaths: o.runtimePaths,
		OnlyRuntimePaths: !o.usualPaths, StateRoots: o.stateRoots, Rootless: o.rootless})
	if !o.standalone {
		checks = append(checks, probeAPI(ctx, o)...)
	}
	if err := printChecks(os.Stdout, o.output, checks); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, c := range checks {
		if c.Needed && !c.OK {
			return errProbe
		}
	}
	return nil
}

func printChecks(w io.Writer, format string, checks []containerhook.Check) error {
	if format == "json" {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(checks)
	}
	table := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(table, "CHECK\tNEEDED\tRESULT\tDETAIL")
	for _, c := range checks {
		needed, result := "yes", "ok"
		if !c.Needed {
			needed = "no"
		}
		if !c.OK {
			result = "FAILED"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Name, needed, result, c.Detail)
	}
	return table.Flush()
}

// probeAPI asks the API server for the CRDs, and for the rights that config/rbac gives an agent.
func probeAPI(ctx context.Context, o *options) []containerhook.Check {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	config, err := restConfig(o)
	if err != nil {
		return []containerhook.Check{containerhook.NewCheck("API server", true, "", err)}
	}
	config.Timeout = probeTimeout
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return []containerhook.Check{containerhook.NewCheck("API server", true, "", err)}
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return []containerhook.Check{containerhook.NewCheck("API server", true, "", err)}
	}
	checks := []containerhook.Check{containerhook.NewCheck("API server", true, "Kubernetes "+version.String(), nil)}
	_, err = client.Discovery().ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	checks = append(checks, containerhook.NewCheck("CRDs", true, v1alpha1.GroupVersion.String(), err))

	for _, resource := range []string{"nodecontainers", "nodecontaineragents"} {
		for _, verb := range []string{"create", "patch"} {
			asked := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Group: v1alpha1.GroupVersion.Group, Resource: resource, Verb: verb}}}
			answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, asked, metav1.CreateOptions{})
			if err == nil && !answer.Status.Allowed {
				err = errors.New("not allowed")
			}
			checks = append(checks, containerhook.NewCheck(verb+" "+resource, true, "allowed", err))
		}
	}
	return checks
}
