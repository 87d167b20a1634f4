package verb

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"drship/cmd/drship/control"
	"drship/internal/face"
	"drship/internal/state"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode stands behind a real control socket and answers from fields.
type fakeNode struct {
	dir string // its run directory

	mu       sync.Mutex
	requests []control.Request
	answer   func(control.Request) (control.Reply, error)
	status   []face.Resource
	statErr  error
	watch    func(ctx context.Context, send func([]face.Resource) bool) // nil: sends status once and stays
	asked    [][]string
}

func (f *fakeNode) Do(_ context.Context, r control.Request) (control.Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r)
	if f.answer != nil {
		return f.answer(r)
	}
	return control.Reply{Results: []control.Result{{Resource: r.Resource}}}, nil
}

func (f *fakeNode) Status(_ context.Context, names []string) ([]face.Resource, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, names)
	if len(names) == 0 {
		return f.status, f.statErr
	}
	var out []face.Resource
	for _, name := range names {
		i := slices.IndexFunc(f.status, func(r face.Resource) bool { return r.Name == name })
		if i < 0 {
			return nil, &control.Error{Code: state.ErrResourceUnknown, What: name, Text: state.CodeText(state.ErrResourceUnknown)}
		}
		out = append(out, f.status[i])
	}
	return out, f.statErr
}

func (f *fakeNode) Watch(ctx context.Context, _ []string) (<-chan []face.Resource, error) {
	out := make(chan []face.Resource)
	go func() {
		defer close(out)
		send := func(rs []face.Resource) bool {
			select {
			case out <- rs:
				return true
			case <-ctx.Done():
				return false
			}
		}
		if f.watch != nil {
			f.watch(ctx, send)
			return
		}
		if send(f.status) {
			<-ctx.Done()
		}
	}()
	return out, nil
}

func (f *fakeNode) seen() []control.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// serve puts the node behind its socket until the test ends or the returned function is called.
func (f *fakeNode) serve(t *testing.T) (stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vrb") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f.dir = filepath.Join(dir, "run")
	l, err := control.Listen(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := control.Serve(ctx, l, f, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// result is one run of the program.
type result struct {
	out, err string
	code     int
}

// call runs the program against the node; deps may be nil.
func (f *fakeNode) call(t *testing.T, deps *Deps, args ...string) result {
	t.Helper()
	d := Deps{}
	if deps != nil {
		d = *deps
	}
	return execute(t.Context(), d, append([]string{"drship", "--run-dir", f.dir, "--node", "alice"}, args...)...)
}

func execute(ctx context.Context, d Deps, args ...string) result {
	var out, errs bytes.Buffer
	d.Args, d.Stdout, d.Stderr = args, &out, &errs
	if d.Getenv == nil {
		d.Getenv = func(string) string { return "" }
	}
	code := Main(ctx, d)
	return result{out.String(), errs.String(), code}
}

// pairOf is a resource with one volume and one peer.
func pairOf(name string, role, peerRole state.Role, conn state.Conn, disk, peerDisk state.Disk) face.Resource {
	return face.Resource{
		Name: name, Role: role,
		Volumes: []face.Volume{{Number: 0, Minor: 0, Device: "/dev/drbd0", Disk: disk, Size: 1 << 30, Quorum: true}},
		Peers: []face.Peer{{Name: "bob", NodeID: 1, Conn: conn, Role: peerRole, Protocol: 'C',
			Volumes: []face.PeerVolume{{Number: 0, Disk: peerDisk, Conn: conn}}}},
	}
}

func healthy(name string) face.Resource {
	return pairOf(name, state.Primary, state.Secondary, state.Connected, state.UpToDate, state.UpToDate)
}
