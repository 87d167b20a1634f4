// Package control is how verbs talk to the daemon of a node: a small API, carried as JSON over HTTP/1.1 on a unix socket.
//
//	POST /v1/do      Request  → Reply
//	GET  /v1/status  ?resource=r0&resource=r1 → []face.Resource
//	GET  /v1/watch   the same, one snapshot a line, for as long as the caller listens
//
// A failure travels whole, as an Error in the body of an answer whose HTTP status is not 200. Every body, line, header
// and the number of connections is bounded on both sides.
package control

import (
	"context"
	"errors"
	"fmt"

	"drship/internal/face"
	"drship/internal/state"
)

// API is what a node offers to verbs; the node implements it, and so does Client.
type API interface {
	// Do carries out one verb. A verb that could not be tried at all returns an *Error; a verb that was tried on several
	// resources says in the Reply how each went.
	Do(ctx context.Context, r Request) (Reply, error)
	// Status returns a snapshot of the named resources that are up, in that order; of all of them where no name is given.
	// A name that is not up is an *Error with Code 158 or 127.
	Status(ctx context.Context, resources []string) ([]face.Resource, error)
	// Watch sends a snapshot at once and then one after every change. A reader that is slow misses snapshots in between,
	// never the newest. The channel is closed when ctx ends or the node stops.
	Watch(ctx context.Context, resources []string) (<-chan []face.Resource, error)
}

// All is the resource name that stands for every resource of the node.
const All = "all"

// AnyVolume is the value of Request.Volume that stands for every volume.
const AnyVolume = -1

// Request asks a node to do something.
type Request struct {
	Verb     string            `json:"verb"`
	Resource string            `json:"resource,omitempty"` // a name or All
	Volume   int               `json:"volume"`             // AnyVolume for all of them
	Peer     string            `json:"peer,omitempty"`     // host name, "" for all
	Options  map[string]string `json:"options,omitempty"`  // by the option's long name: "force": "yes", "start": "4096"
}

// Yes reports whether the boolean option name was given.
func (r *Request) Yes(name string) bool { return r.Options[name] == "yes" }

// Reply is what became of a Request, by resource.
type Reply struct {
	Results []Result `json:"results"`
}

// Result is what became of a Request on one resource.
type Result struct {
	Resource string   `json:"resource"`
	Code     int      `json:"code,omitempty"`  // 0, or DRBD's SS_ (negative) or ERR_ (101 and above) code, or ours
	Text     string   `json:"text,omitempty"`  // Code 0: a remark; else what went wrong
	Lines    []string `json:"lines,omitempty"` // the answer of a verb that asks for something
	Hint     string   `json:"hint,omitempty"`  // what to do about a failure
	Exit     int      `json:"exit,omitempty"`  // exit code; 0 lets Code decide
}

// Err returns the failure of the result, nil where there is none.
func (r *Result) Err() error {
	if r.Code == 0 && r.Exit == 0 {
		return nil
	}
	return &Error{Code: r.Code, What: r.Resource, Text: r.Text, Hint: r.Hint, Exit: r.Exit}
}

// Error is a failure as an administrator sees it: what it happened to, what happened, what to do.
type Error struct {
	Code int    `json:"code,omitempty"` // DRBD's SS_ (negative) or ERR_ (101 and above) code, or 0
	What string `json:"what,omitempty"` // the resource, peer, file or socket that it happened to
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
	Exit int    `json:"exit,omitempty"` // exit code of the program; 0 lets Code decide

	noDaemon bool
}

// Error gives the message in DRBD's shape, without the hint: "r0: State change failed: (-2) Need access to UpToDate data".
func (e *Error) Error() string {
	text := e.Text
	switch {
	case e.Code < 0:
		text = fmt.Sprintf("State change failed: (%d) %s", e.Code, e.Text)
	case e.Code > 100:
		text = fmt.Sprintf("Failure: (%d) %s", e.Code, e.Text)
	}
	if e.What == "" {
		return text
	}
	return e.What + ": " + text
}

// ExitCode is the exit code of a program that ends with e.
func (e *Error) ExitCode() int {
	if e.Exit != 0 {
		return e.Exit
	}
	if code := state.ExitCode(e.Code); code != 0 {
		return code
	}
	return ExitRefused
}

// NoDaemon reports whether err says that no daemon answers on the control socket.
func NoDaemon(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.noDaemon
}

// The exit codes of drbdadm and drbdsetup that this package sets itself; docs/exit-codes.md has all of them.
const (
	ExitUsage   = 1  // bad arguments, unknown resource
	ExitTimeout = 5  // a wait ran out of time
	ExitRefused = 10 // the node refused, or the configuration is impossible
	ExitState   = 11 // a state change was refused
	ExitHard    = 20 // the daemon cannot be reached or failed
)

// asError turns any failure of an API into the Error that travels.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[*state.Refusal](err); ok {
		return &Error{Code: r.Code, Text: r.Text, Hint: r.Detail, Exit: r.ExitCode()}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Text: err.Error(), Exit: ExitTimeout}
	case errors.Is(err, context.Canceled):
		return &Error{Text: "interrupted: " + err.Error(), Exit: ExitHard}
	}
	return &Error{Text: err.Error(), Exit: ExitRefused}
}
