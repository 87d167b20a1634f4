package verb

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drship/cmd/drship/control"
)

// attendance runs attend in a bubble with everything it listens to.
type attendance struct {
	signals chan os.Signal
	reload  chan struct{}
	done    chan error
	ended   chan error
	stopped bool
}

func attending(t *testing.T) *attendance {
	a := &attendance{signals: make(chan os.Signal, 4), reload: make(chan struct{}, 1), done: make(chan error, 1), ended: make(chan error, 1)}
	go func() {
		a.ended <- attend(a.signals, a.reload, a.done, func() { a.stopped = true }, time.Minute, slog.New(slog.DiscardHandler))
	}()
	synctest.Wait()
	return a
}

func TestAttend(t *testing.T) {
	bubble := func(name string, f func(*testing.T, *attendance)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, attending(t)) }) })
	}
	bubble("reload requests are coalesced", func(t *testing.T, a *attendance) {
		for range 3 {
			a.signals <- syscall.SIGHUP
			synctest.Wait()
		}
		<-a.reload
		if len(a.reload) != 0 || a.stopped {
			t.Error("three SIGHUP are more than one reload, or a stop")
		}
		a.done <- nil
		if err := <-a.ended; err != nil {
			t.Error(err)
		}
	})
	bubble("orderly stop", func(t *testing.T, a *attendance) {
		a.signals <- syscall.SIGTERM
		synctest.Wait()
		if !a.stopped {
			t.Error("SIGTERM did not stop the node")
		}
		a.done <- context.Canceled
		if err := <-a.ended; err != nil {
			t.Errorf("orderly stop ended with %v", err)
		}
	})
	bubble("stop takes too long", func(t *testing.T, a *attendance) {
		a.signals <- syscall.SIGTERM
		time.Sleep(time.Minute + time.Second)
		if e, ok := errors.AsType[*control.Error](<-a.ended); !ok || e.Exit != 20 || !strings.Contains(e.Text, "within 1m0s") {
			t.Errorf("got %v", e)
		}
	})
	bubble("second signal", func(t *testing.T, a *attendance) {
		a.signals <- syscall.SIGINT
		a.signals <- syscall.SIGTERM
		if e, ok := errors.AsType[*control.Error](<-a.ended); !ok || e.Exit != 20 {
			t.Errorf("got %v", e)
		}
	})
	bubble("node fails", func(t *testing.T, a *attendance) {
		want := errors.New("port taken")
		a.done <- want
		if err := <-a.ended; err != want {
			t.Errorf("got %v", err)
		}
	})
}

// nodeOf serves a fake node as DaemonFunc until its context ends.
func nodeOf(f *fakeNode, ready bool, seen *DaemonOptions, started chan<- struct{}) DaemonFunc {
	return func(ctx context.Context, o DaemonOptions) error {
		*seen = o
		l, err := control.Listen(o.RunDir)
		if err != nil {
			return err
		}
		served := make(chan error, 1)
		go func() { served <- control.Serve(ctx, l, f, o.Logger) }()
		if ready {
			o.Ready()
			o.Ready() // more than once does no harm
		}
		close(started)
		for {
			select {
			case <-o.Reload:
				if err := os.WriteFile(filepath.Join(o.RunDir, "reloaded"), nil, 0o600); err != nil {
					return err
				}
				f.mu.Lock()
				f.requests = append(f.requests, control.Request{Verb: "reload"})
				f.mu.Unlock()
				syscall.Kill(os.Getpid(), syscall.SIGTERM)
			case err := <-served:
				return err
			}
		}
	}
}

func TestDaemonLivesBetweenItsSignals(t *testing.T) {
	dir, err := os.MkdirTemp("", "dmn")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", systemd.LocalAddr().String())
	env := map[string]string{"NOTIFY_SOCKET": systemd.LocalAddr().String(), "WATCHDOG_USEC": "60000000"}

	f := &fakeNode{}
	var seen DaemonOptions
	started := make(chan struct{})
	ran := make(chan result, 1)
	go func() {
		ran <- execute(t.Context(), Deps{Daemon: nodeOf(f, true, &seen, started), Getenv: func(k string) string { return env[k] }},
			"drship", "daemon", "--node", "alice", "--run-dir", filepath.Join(dir, "run"), "--state-dir", filepath.Join(dir, "state"), "-c", "x.conf",
			"--log-format", "json", "--log-level", "debug", "--debug-socket", filepath.Join(dir, "debug"))
	}()
	<-started
	told := func() string {
		b := make([]byte, 256)
		if err := systemd.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := systemd.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1"} {
		if got := told(); got != want {
			t.Errorf("systemd was told %q, want %q", got, want)
		}
	}
	debug := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(dir, "debug"))
	}}}
	if resp, err := debug.Get("http://debug/debug/pprof/"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("profiles: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if info, err := os.Stat(filepath.Join(dir, "debug")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("debug socket: %v, %v", info, err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGHUP) // the fake node answers a reload with SIGTERM
	got := <-ran
	if stopping := told(); stopping != "STOPPING=1" {
		t.Errorf("systemd was told %q at the end", stopping)
	}
	if got.code != 0 || !strings.Contains(got.err, `"msg":"stopping"`) || !strings.Contains(got.err, `"msg":"stopped"`) {
		t.Errorf("daemon: %+v", got)
	}
	if seen.Node != "alice" || seen.ConfigFile != "x.conf" || seen.StateDir != filepath.Join(dir, "state") {
		t.Errorf("the node was started with %+v", seen)
	}
	if _, err := os.Stat(filepath.Join(dir, "run", "reloaded")); err != nil {
		t.Errorf("SIGHUP did not reach the node: %v", err)
	}
	if _, err := os.Stat(control.SocketPath(filepath.Join(dir, "run"))); err == nil {
		t.Error("the control socket outlived the daemon")
	}
}

func TestDaemonThatFails(t *testing.T) {
	d := Deps{Daemon: func(context.Context, DaemonOptions) error {
		return &control.Error{What: "r0", Text: "disk is in use", Exit: 20}
	}}
	got := execute(t.Context(), d, "drship", "daemon", "--run-dir", t.TempDir())
	if got.code != 20 || !strings.Contains(got.err, "drship: r0: disk is in use\n") {
		t.Errorf("got %+v", got)
	}
	if got := execute(t.Context(), Deps{}, "drship", "daemon"); got.code != 20 || !strings.Contains(got.err, "no daemon") {
		t.Errorf("build without a node: %+v", got)
	}
}

func TestWatchdogStaysSilentForDeadNode(t *testing.T) {
	dir := t.TempDir()
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", systemd.LocalAddr().String())
	var log strings.Builder
	s := newSupervisor(func(k string) string {
		return map[string]string{"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "200000"}[k]
	}, filepath.Join(dir, "nobody.sock"), slog.New(slog.NewTextHandler(&log, nil)))
	if s.watchdog != 200*time.Millisecond {
		t.Fatalf("watchdog %v", s.watchdog)
	}
	client := control.Dial(s.socket)
	defer client.Close()
	if err := s.alive(t.Context(), client); err == nil {
		t.Error("a node that does not answer is alive")
	}
	if err := systemd.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := systemd.Read(make([]byte, 64)); err == nil {
		t.Errorf("systemd was told %d bytes", n)
	}
	if none := newSupervisor(func(string) string { return "" }, "x", slog.New(slog.DiscardHandler)); none.notified || none.watchdog != 0 {
		t.Errorf("without systemd: %+v", none)
	}
}
