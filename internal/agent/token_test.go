package agent

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
)

func token(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl"
}

const bound = `{"sub":"system:serviceaccount:containerhook-system:containerhook-agent",
	"kubernetes.io":{"namespace":"containerhook-system","node":{"name":"node-1","uid":"u-1"},"pod":{"name":"p","uid":"p-1"}}}`

func TestTheOwnerIsTheNodeOfTheToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token(bound)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*rest.Config{
		"a token": {BearerToken: token(bound)}, "a file": {BearerTokenFile: file}, "the file counts": {BearerToken: "x", BearerTokenFile: file},
	} {
		owner, err := ownerFrom(config, "node-1")
		if err != nil || len(owner) != 1 || owner[0].Kind != "Node" || owner[0].Name != "node-1" || owner[0].UID != "u-1" {
			t.Errorf("%s: %+v, %v", name, owner, err)
		}
	}
	if _, err := ownerFrom(&rest.Config{BearerToken: token(bound)}, "node-2"); !errors.Is(err, errOtherNode) {
		t.Errorf("on another node: %v", err)
	}
	if _, err := ownerFrom(&rest.Config{BearerTokenFile: file + "x"}, "node-1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

func TestWhereTheCredentialsDoNotTellThereIsNoOwner(t *testing.T) {
	for name, text := range map[string]string{
		"no token": "", "not a JWT": "abc", "two parts": "a.b", "not base64": "a.*.c", "not JSON": token("x"), "no claims": token("{}"),
		"not bound to a pod": token(`{"kubernetes.io":{"namespace":"x"}}`), "no UID": token(`{"kubernetes.io":{"node":{"name":"node-1"}}}`),
	} {
		if owner, err := ownerFrom(&rest.Config{BearerToken: text}, "node-1"); err != nil || owner != nil {
			t.Errorf("%s: %+v, %v", name, owner, err)
		}
	}
}
