package e2e

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Made by TestMain, for all tests.
var (
	config     *rest.Config
	api        client.WithWatch // as an administrator
	namespace  string           // of the pods that tests make; it goes at the end
	system     string           // the namespace that the chart is installed in
	clusterDir string           // where make cluster keeps what it knows
	local      bool             // the cluster is make cluster's: its nodes are processes of this machine
	image      string           // of busybox
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // or controller-runtime says that nobody did
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := connect(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	go func() {
		fmt.Fprintln(os.Stderr, "FAIL:", <-interrupts, deleteNamespace())
		os.Exit(1)
	}()
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil { // they wait: as many at once as like to (order_test.go)
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	code := m.Run()
	if err := deleteNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return code
}

// connect finds the cluster and the chart in it, and makes the namespace.
func connect(ctx context.Context) error {
	kubeconfig := os.Getenv("KUBECONFIG")
	var err error
	if clusterDir, err = filepath.Abs("../../.cache/cluster"); err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	image = cmp.Or(os.Getenv("E2E_IMAGE"), "docker.io/library/busybox:1.37")
	if local = kubeconfig == filepath.Join(clusterDir, "admin.kubeconfig"); local {
		image = "containerhook.test/busybox:1"
	}
	if config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return fmt.Errorf("read KUBECONFIG %q: %w", kubeconfig, err)
	}
	config.QPS = -1 // as fast as the API server allows
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	if api, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	var agents appsv1.DaemonSetList
	if err := api.List(ctx, &agents, agentLabels); err != nil {
		return fmt.Errorf("look for the chart: %w", err)
	}
	if len(agents.Items) != 1 {
		return fmt.Errorf("look for the chart: there are %d DaemonSets of agents, not one", len(agents.Items))
	}
	system = agents.Items[0].Namespace
	own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "containerhook-e2e-"}}
	if err := api.Create(ctx, own); err != nil {
		return fmt.Errorf("make a namespace: %w", err)
	}
	namespace = own.Name
	return nil
}

// deleteNamespace waits for the pods in it too: what a test leaves must not be in the way of the next.
func deleteNamespace() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := api.Delete(ctx, own); err != nil {
		return fmt.Errorf("delete namespace %s: %w", namespace, err)
	}
	return poll(ctx, func() error {
		if err := api.Get(ctx, client.ObjectKeyFromObject(own), own); client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("namespace %s is still there: %w", namespace, err)
		}
		return nil
	})
}
