package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"drship/internal/face"
	"drship/internal/state"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAPI answers from functions.
type fakeAPI struct {
	do     func(context.Context, Request) (Reply, error)
	status func([]string) ([]face.Resource, error)
	watch  func(context.Context, []string) (<-chan []face.Resource, error)
}

func (f *fakeAPI) Do(ctx context.Context, r Request) (Reply, error) { return f.do(ctx, r) }
func (f *fakeAPI) Status(_ context.Context, names []string) ([]face.Resource, error) {
	return f.status(names)
}
func (f *fakeAPI) Watch(ctx context.Context, names []string) (<-chan []face.Resource, error) {
	return f.watch(ctx, names)
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start serves api and returns a client and a function that stops the server and returns Serve's error.
func start(t *testing.T, api API) (*Client, func() error) {
	t.Helper()
	dir := filepath.Join(shortDir(t), "run")
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, api, slog.New(slog.DiscardHandler)) }()
	c := Dial(SocketPath(dir))
	stop := func() error { cancel(); c.Close(); err := <-done; done <- err; return err }
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close listener again: %v", err)
		}
	})
	return c, stop
}

func TestDoCarriesEverything(t *testing.T) {
	want := Request{Verb: "primary", Resource: "r0", Volume: 3, Peer: "bob", Options: map[string]string{"force": "yes"}}
	reply := Reply{Results: []Result{{Resource: "r0", Code: -2, Text: "Need access to UpToDate data", Lines: []string{"a", "b"}, Hint: "h", Exit: 17}}}
	var got Request
	c, _ := start(t, &fakeAPI{do: func(_ context.Context, r Request) (Reply, error) { got = r; return reply, nil }})
	back, err := c.Do(t.Context(), want)
	if err != nil || !reflect.DeepEqual(back, reply) || !reflect.DeepEqual(got, want) {
		t.Fatalf("Do = %+v, %v; the node saw %+v", back, err, got)
	}
	if !got.Yes("force") || got.Yes("other") {
		t.Error("Yes does not tell the options apart")
	}
}

func TestErrorTravelsWhole(t *testing.T) {
	want := &Error{Code: -12, What: "r0", Text: "Device is held open by someone", Hint: "close qemu", Exit: 11}
	for name, fail := range map[string]error{
		"typed":   want,
		"wrapped": fmt.Errorf("demote: %w", want),
	} {
		c, _ := start(t, &fakeAPI{
			do:     func(context.Context, Request) (Reply, error) { return Reply{}, fail },
			status: func([]string) ([]face.Resource, error) { return nil, fail },
			watch:  func(context.Context, []string) (<-chan []face.Resource, error) { return nil, fail },
		})
		_, doErr := c.Do(t.Context(), Request{Verb: "x"})
		_, statusErr := c.Status(t.Context(), nil)
		_, watchErr := c.Watch(t.Context(), nil)
		for _, err := range []error{doErr, statusErr, watchErr} {
			if got, ok := errors.AsType[*Error](err); !ok || *got != *want {
				t.Errorf("%s: got %#v, want %#v", name, err, want)
			}
		}
	}
	c, _ := start(t, &fakeAPI{do: func(context.Context, Request) (Reply, error) { return Reply{}, errors.New("open store: no space") }})
	_, err := c.Do(t.Context(), Request{Verb: "x"})
	if got, ok := errors.AsType[*Error](err); !ok || got.Exit != ExitRefused || got.Text != "open store: no space" {
		t.Errorf("plain error came back as %#v", err)
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*Error{
		"r0: State change failed: (-2) Need access to UpToDate data": {Code: -2, What: "r0", Text: "Need access to UpToDate data"},
		"r0: Failure: (127) Device minor not allocated":              {Code: 127, What: "r0", Text: "Device minor not allocated"},
		"r0: no such volume": {What: "r0", Text: "no such volume"},
		"no such volume":     {Text: "no such volume"},
		"r0: full":           {Code: 7, What: "r0", Text: "full"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for want, e := range map[int]*Error{17: {Code: -2}, 11: {Code: -12}, 10: {Code: 158}, 16: {Code: -4}, 20: {Code: -2, Exit: 20}} {
		if got := e.ExitCode(); got != want {
			t.Errorf("%+v: exit code %d, want %d", e, got, want)
		}
	}
	if e := asError(fmt.Errorf("promote: %w", state.Refused(state.SSNoUpToDateDisk, "use --force").Err())); e.Code != -2 || e.ExitCode() != 17 || e.Hint != "use --force" {
		t.Errorf("refusal of the state machine became %+v", e)
	}
	if NoDaemon(errors.New("x")) {
		t.Error("any error says that there is no daemon")
	}
	if (&Result{Resource: "r0", Text: "done"}).Err() != nil {
		t.Error("a result without code is an error")
	}
	if err := (&Result{Resource: "r0", Code: -1, Text: "x"}).Err(); err == nil || !strings.Contains(err.Error(), "r0") {
		t.Errorf("result with a code gives %v", err)
	}
}

// fill sets every field of v to something that is not zero, so that a field that does not travel is seen.
func fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 5).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), depth)
		}
	case reflect.Slice:
		if depth == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), depth-1)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth)
	case reflect.String:
		v.SetString("x\n\"ü")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(-7)
	case reflect.Uint64:
		v.SetUint(1<<63 + 1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(2)
	default:
		panic("a kind of field that the control socket has not met: " + v.Kind().String())
	}
}

func TestStatusCarriesEveryField(t *testing.T) {
	want := make([]face.Resource, 2)
	fill(reflect.ValueOf(want).Index(0), 4)
	var names []string
	c, _ := start(t, &fakeAPI{status: func(n []string) ([]face.Resource, error) { names = n; return want, nil }})
	got, err := c.Status(t.Context(), []string{"r0", "r 1&x"})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Status = %+v, %v\nwant %+v", got, err, want)
	}
	if !reflect.DeepEqual(names, []string{"r0", "r 1&x"}) {
		t.Errorf("the node saw the names %q", names)
	}
	if _, err := c.Status(t.Context(), make([]string, maxResources+1)); err == nil {
		t.Error("too many names were taken")
	}
}

// ticker sends the snapshots it is given, and one of the state's number each, until ctx ends.
func ticker(in <-chan int) func(context.Context, []string) (<-chan []face.Resource, error) {
	return func(ctx context.Context, _ []string) (<-chan []face.Resource, error) {
		out := make(chan []face.Resource)
		go func() {
			defer close(out)
			for {
				select {
				case <-ctx.Done():
					return
				case n := <-in:
					select {
					case out <- []face.Resource{{Name: "r0", NodeID: n, Role: state.Primary}}:
					case <-ctx.Done():
						return
					}
				}
			}
		}()
		return out, nil
	}
}

func TestWatchStreamsAndCoalesces(t *testing.T) {
	in := make(chan int)
	c, _ := start(t, &fakeAPI{watch: ticker(in)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch, err := c.Watch(ctx, []string{"r0"})
	if err != nil {
		t.Fatal(err)
	}
	in <- 1
	if rs := <-ch; rs[0].NodeID != 1 || rs[0].Role != state.Primary {
		t.Fatalf("first snapshot %+v", rs)
	}
	for n := 2; n <= 500; n++ { // nobody reads: the daemon must not be held up
		in <- n
	}
	last := 1
	for rs := range ch {
		if rs[0].NodeID <= last {
			t.Fatalf("snapshot %d after %d", rs[0].NodeID, last)
		}
		if last = rs[0].NodeID; last == 500 {
			break
		}
	}
	cancel()
	for range ch { // must be closed by ctx
	}
}

func TestStopEndsWatchAndLetsVerbFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	c, stop := start(t, &fakeAPI{
		watch: ticker(make(chan int)),
		do: func(ctx context.Context, _ Request) (Reply, error) {
			close(entered)
			<-release
			return Reply{Results: []Result{{Resource: "r0"}}}, ctx.Err()
		},
	})
	ch, err := c.Watch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	verb := make(chan error, 1)
	go func() { _, err := c.Do(t.Context(), Request{Verb: "down"}); verb <- err }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for range ch { // ends although the verb is still under way
	}
	close(release)
	if err := <-verb; err != nil {
		t.Errorf("verb under way was cut: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestInterruptedVerbEndsOnTheNode(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	c, _ := start(t, &fakeAPI{do: func(ctx context.Context, _ Request) (Reply, error) {
		close(entered)
		<-ctx.Done()
		close(ended)
		return Reply{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := c.Do(ctx, Request{Verb: "primary"}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted verb returned %v", err)
	}
	<-ended
}

func TestNoDaemon(t *testing.T) {
	dir := shortDir(t)
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{SocketPath(dir), stale} {
		c := Dial(path)
		_, err := c.Status(t.Context(), nil)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Exit != ExitHard || !strings.Contains(e.Hint, "drship daemon") || e.What != path || !NoDaemon(err) {
			t.Errorf("%s: got %#v", path, err)
		}
		c.Close()
	}
	long := Dial(filepath.Join(dir, strings.Repeat("x", 200)))
	defer long.Close()
	if _, err := long.Status(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("long path: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir := filepath.Join(shortDir(t), "a", "run")
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, SocketPath(dir): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", path, info.Mode(), err, mode)
		}
	}
	_, err = Listen(dir)
	if e, ok := errors.AsType[*Error](err); !ok || e.Exit != ExitHard || !strings.Contains(e.Text, fmt.Sprint(os.Getpid())) {
		t.Errorf("second daemon: %v", err)
	}
	// The lock file removed by hand does not let a second daemon in either.
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err = Listen(dir); err == nil || !strings.Contains(err.Error(), "runs with this run directory") {
		t.Errorf("second daemon without the lock file: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(SocketPath(dir)); err == nil {
		t.Error("socket is still there after Close")
	}
	again, err := Listen(dir)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	again.Close()
}

func TestListenReplacesStaleSocket(t *testing.T) {
	dir := shortDir(t)
	for _, name := range []string{SocketName, SocketName + ".new"} {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("run directory open to all: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("x", 120))); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("long run directory: %v", err)
	}
}

func TestHostileRequests(t *testing.T) {
	c, _ := start(t, &fakeAPI{do: func(context.Context, Request) (Reply, error) {
		t.Error("a bad request reached the node")
		return Reply{}, nil
	}})
	for name, body := range map[string]string{
		"empty":         "",
		"no verb":       `{}`,
		"garbage":       "\x00\xff",
		"unknown field": `{"verb":"up","shell":"rm"}`,
		"two":           `{"verb":"up"}{"verb":"down"}`,
		"huge":          `{"verb":"` + strings.Repeat("a", maxRequestBody) + `"}`,
		"wrong type":    `{"verb":"up","volume":"zero"}`,
	} {
		resp, err := c.http.Post("http://x/v1/do", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var e Error
		if derr := json.NewDecoder(resp.Body).Decode(&e); derr != nil || e.Text == "" || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s, %+v, %v", name, resp.Status, e, derr)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	var out any
	err := c.exchange(t.Context(), http.MethodGet, "/v2/status", nil, nil, &out)
	if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Hint, "different versions") {
		t.Errorf("unknown path: %v", err)
	}
}

func TestOversizedAnswer(t *testing.T) {
	big := Reply{Results: []Result{{Resource: "r0", Lines: []string{strings.Repeat("x", maxAnswer)}}}}
	c, _ := start(t, &fakeAPI{do: func(context.Context, Request) (Reply, error) { return big, nil }})
	_, err := c.Do(t.Context(), Request{Verb: "dump-md"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Exit != ExitHard {
		t.Errorf("got %v", err)
	}
}
