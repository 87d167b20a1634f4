package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"drship/cmd/drship/control"
	"drship/internal/config"
)

// Exit codes that the command line sets itself; docs/exit-codes.md has the whole table.
const (
	exitUsage       = control.ExitUsage
	exitTimeout     = control.ExitTimeout
	exitConfig      = 10
	exitFailed      = 10
	exitHard        = control.ExitHard
	exitMetadata    = 40 // drbdmeta's: create-md finds what it must not overwrite
	exitInterrupted = 130
)

// usageError is a command line that was not understood.
type usageError struct {
	err     error
	command string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// failures are those of one verb on several resources.
type failures []error

func (f failures) Error() string { return errors.Join(f...).Error() }

// Unwrap lets errors.Is and errors.As look at each.
func (f failures) Unwrap() []error { return f }

// quiet ends the program with a code and without a word: what there is to say was printed.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit code %d", int(q)) }

// report is the one place where a failure becomes text, hint and exit code. program is the name that users know.
func report(w io.Writer, program string, err error) int {
	if err == nil {
		return 0
	}
	if list, ok := errors.AsType[failures](err); ok {
		worst := 0
		for _, e := range list {
			worst = max(worst, report(w, program, e))
		}
		return worst
	}
	text, hint, code := explain(program, err)
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(w, "%s: %s\n", program, line)
		}
	}
	if hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", strings.ReplaceAll(strings.TrimRight(hint, "\n"), "\n", "\n        "))
	}
	return code
}

// explain says what to print for an error and what to exit with.
func explain(program string, err error) (text, hint string, code int) {
	if q, ok := errors.AsType[quiet](err); ok {
		return "", "", int(q)
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		// What was wrapped around it on the way says what was being done.
		return err.Error(), e.Hint, e.ExitCode()
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		return err.Error(), "see: " + e.command + " --help", exitUsage
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return err.Error(), "", exitConfig
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer within the time allowed: " + err.Error(), "is the daemon stopped or stuck? look at its log", exitTimeout
	case errors.Is(err, context.Canceled):
		return "interrupted", "", exitInterrupted
	}
	return err.Error(), "", exitFailed
}
