package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// startTimeout is far beyond the 3 s that it takes on two idle cores: the machine may be busy.
const startTimeout = 3 * time.Minute

// ControlPlane is a kube-apiserver, its etcd, and a kube-controller-manager where it was asked for. Its methods that start
// or stop something are not for use by several goroutines at once.
type ControlPlane struct {
	// Dir holds everything: certificates, the data of etcd (in Dir/etcd), and what each process says (in *.log). Stop
	// removes it.
	Dir string
	// EtcdURL is where etcd answers, in the clear and on loopback, to gRPC and to JSON (/v3/kv/range).
	EtcdURL string
	// Config is a client's who may do everything (group system:masters). It has no client-side rate limit.
	Config *rest.Config
	// Kubeconfig is the path of the same for kubectl.
	Kubeconfig string

	ca                          *authority
	etcd, apiserver, controller *process
	etcdPeer, address           string // host:port
}

// Start starts etcd and the API server and returns when it is ready, which takes about 3 s. All that they have is in a
// directory of their own below parent. The caller must Stop it.
func Start(ctx context.Context, parent string) (_ *ControlPlane, err error) {
	dir, err := os.MkdirTemp(parent, "api-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	c := &ControlPlane{Dir: dir, Kubeconfig: filepath.Join(dir, "admin.kubeconfig")}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.prepare(); err != nil {
		return nil, err
	}
	c.etcd, err = start(dir, "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+c.EtcdURL, "--advertise-client-urls="+c.EtcdURL,
		"--listen-peer-urls="+c.etcdPeer, "--initial-advertise-peer-urls="+c.etcdPeer, "--initial-cluster=default="+c.etcdPeer)
	if err != nil {
		return nil, err
	}
	return c, c.StartAPIServer(ctx)
}

// prepare chooses ports, and writes certificates and the administrator's kubeconfig.
func (c *ControlPlane) prepare() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	c.EtcdURL, c.etcdPeer, c.address = "http://"+ports[0], "http://"+ports[1], ports[2]
	if c.ca, err = newAuthority(c.Dir); err != nil {
		return err
	}
	if _, err := c.ca.issueKey("service-account"); err != nil {
		return err
	}
	if err := c.ca.issue("apiserver", "kube-apiserver"); err != nil {
		return err
	}
	c.Config, err = c.user(c.Kubeconfig, "admin", "system:masters")
	return err
}

// user makes a user that is known by a certificate, and writes a kubeconfig for it.
func (c *ControlPlane) user(kubeconfig, name string, groups ...string) (*rest.Config, error) {
	if err := c.ca.issue(name, name, groups...); err != nil {
		return nil, err
	}
	config := &rest.Config{Host: "https://" + c.address, QPS: -1, TLSClientConfig: rest.TLSClientConfig{
		CAFile: c.ca.path("ca.crt"), CertFile: c.ca.path(name + ".crt"), KeyFile: c.ca.path(name + ".key")}}
	return config, WriteKubeconfig(kubeconfig, config)
}

// StartAPIServer starts the API server again, after StopAPIServer: at the same address, with the same objects.
func (c *ControlPlane) StartAPIServer(ctx context.Context) (err error) {
	host, port, err := net.SplitHostPort(c.address)
	if err != nil {
		return fmt.Errorf("split address: %w", err)
	}
	c.apiserver, err = start(c.Dir, "kube-apiserver", "--etcd-servers="+c.EtcdURL,
		"--bind-address="+host, "--secure-port="+port, "--endpoint-reconciler-type=none",
		"--tls-cert-file="+c.ca.path("apiserver.crt"), "--tls-private-key-file="+c.ca.path("apiserver.key"),
		"--client-ca-file="+c.ca.path("ca.crt"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.ca.path("service-account.key"),
		"--service-account-signing-key-file="+c.ca.path("service-account.key"),
		"--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged", "--profiling=false")
	if err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// StopAPIServer ends the API server, as a crash would.
func (c *ControlPlane) StopAPIServer() { c.apiserver.stop() }

func (c *ControlPlane) waitReady(ctx context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	var last error
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, startTimeout, true, func(ctx context.Context) (bool, error) {
		for _, p := range []*process{c.etcd, c.apiserver} {
			select {
			case <-p.done:
				return false, fmt.Errorf("start %s: it ended: %s", p.cmd.Path, p.tail())
			default:
			}
		}
		last = client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the API server: %w", errors.Join(err, last))
	}
	return nil
}

// StartControllerManager starts those of Kubernetes' controllers that are named, as --controllers takes them.
func (c *ControlPlane) StartControllerManager(controllers string) error {
	kubeconfig := filepath.Join(c.Dir, "controller-manager.kubeconfig")
	if _, err := c.user(kubeconfig, "system:kube-controller-manager"); err != nil {
		return err
	}
	var err error
	c.controller, err = start(c.Dir, "kube-controller-manager", "--kubeconfig="+kubeconfig, "--controllers="+controllers,
		"--use-service-account-credentials", "--service-account-private-key-file="+c.ca.path("service-account.key"),
		"--root-ca-file="+c.ca.path("ca.crt"), "--leader-elect=false", "--secure-port=0")
	return err
}

// StopControllerManager ends the controllers.
func (c *ControlPlane) StopControllerManager() { c.controller.stop() }

// Stop ends everything and removes Dir.
func (c *ControlPlane) Stop() error {
	for _, p := range []*process{c.controller, c.apiserver, c.etcd} {
		p.stop()
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("remove directory: %w", err)
	}
	return nil
}

// freePorts returns n addresses on loopback at which nobody listens now.
func freePorts(n int) ([]string, error) {
	if n == 0 {
		return nil, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find port: %w", err)
	}
	defer l.Close() // only when all are found, so that they differ
	others, err := freePorts(n - 1)
	return append(others, l.Addr().String()), err
}
