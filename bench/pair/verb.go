package pair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// verbTimeout bounds one verb that does not wait for anything by its nature.
const verbTimeout = 60 * time.Second

// VerbError is a verb that ended with an exit code other than 0.
type VerbError struct {
	Node string
	Args []string
	Code int    // exit code; -1 if it was killed
	Text string // what it wrote to stderr, and to stdout
}

func (e *VerbError) Error() string {
	return fmt.Sprintf("%s: drship %s: exit code %d: %s", e.Node, strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Text))
}

// Verb runs one verb against the node and returns what it printed. Its error is a *VerbError where the program refused.
func (n *Node) Verb(ctx context.Context, verb string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, verbTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.pair.o.Binary, n.arguments(verb, args...)...)
	cmd.Env = append(os.Environ(), n.pair.o.Env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return stdout.String(), &VerbError{
			Node: n.Name, Args: append([]string{verb}, args...),
			Code: exit.ExitCode(), Text: stderr.String() + stdout.String(),
		}
	}
	if err != nil {
		return "", fmt.Errorf("run drship %s: %w", verb, err)
	}
	return stdout.String(), nil
}

// Command is the shell command that runs a verb against the node, for messages.
func (n *Node) Command(verb string, args ...string) string {
	return n.pair.o.Binary + " " + strings.Join(n.arguments(verb, args...), " ")
}
