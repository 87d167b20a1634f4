package pair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build compiles the program into dir and returns its path; DRSHIP_BIN names one that is ready and is taken as it is. race adds the race detector to
// the daemon itself.
func Build(ctx context.Context, dir string, race bool) (string, error) {
	if bin := os.Getenv("DRSHIP_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "drship")
	args := []string{"build", "-o", out}
	cgo := "CGO_ENABLED=0"
	if race {
		args = append(args, "-race")
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/drship")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build drship: %w\n%s", err, text)
	}
	return out, nil
}

// moduleRoot is the nearest folder above the current one with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find the module: no go.mod here or above; run this inside the source tree or set DRSHIP_BIN")
		}
		dir = up
	}
}
