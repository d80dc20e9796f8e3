package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build builds programs, of packages by the paths that they are to have. It does so as everything is built that is
// shipped: what the linter, the image and the tests have in common is compiled once.
func Build(ctx context.Context, programs map[string]string) error {
	for path, pkg := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}
