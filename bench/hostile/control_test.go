package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drship/bench/device"
	"drship/bench/pair"
)

// nobody is a user of the machine who has no business here.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// TestPermissions: nobody but the owner reaches sockets, keys, state or run directory, even where the way to them is open.
func TestPermissions(t *testing.T) {
	v := newVictim(t, pair.Options{})
	control := socketOf(v.alice, "control.sock")
	modes := map[string]fs.FileMode{v.alice.RunDir(): 0o700, v.alice.StateDir(): 0o700, control: 0o600, v.alice.NBDSocket(): 0o600}
	keys, err := filepath.Glob(filepath.Join(v.alice.StateDir(), ".identity", "key.pem"))
	if err != nil || len(keys) != 1 {
		t.Errorf("keys %q: %v", keys, err)
	}
	for _, key := range keys {
		modes[key] = 0o600
	}
	for path, want := range modes {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			t.Errorf("%s belongs to somebody else", path)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("trying it as another user needs root")
	}
	for dir := v.alice.RunDir(); dir != "/"; dir = filepath.Dir(dir) { // the way is open: only the sockets' own modes are left
		if err := os.Chmod(dir, 0o755|stickyOf(t, dir)); err != nil {
			t.Fatal(err)
		}
		if dir == v.pair.Dir() {
			break
		}
	}
	probe := filepath.Join(v.pair.Dir(), "hostile.test")
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(probe, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{control, v.alice.NBDSocket()} {
		cmd := exec.CommandContext(v.ctx, probe, "-test.run", "^TestProbe$", "-test.v")
		cmd.Dir, cmd.Env = "/", []string{"DRSHIP_PROBE=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "probe: permission denied") {
			t.Errorf("%s, to another user: %v\n%s", socket, err, out)
		}
	}
	v.unharmed(t)
}

// stickyOf keeps what a folder has beyond its permissions.
func stickyOf(t *testing.T, dir string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode() & fs.ModeSticky
}

// TestProbe is what TestPermissions runs as another user.
func TestProbe(t *testing.T) {
	socket := os.Getenv("DRSHIP_PROBE")
	if socket == "" {
		t.Skip("run by TestPermissions")
	}
	c, err := net.Dial("unix", socket)
	switch {
	case errors.Is(err, syscall.EACCES):
		fmt.Println("probe: permission denied")
	case err != nil:
		t.Fatal(err)
	default:
		_ = c.Close()
		t.Fatal("the socket takes anybody")
	}
}

// TestControl sends what no verb sends, to the socket that verbs use.
func TestControl(t *testing.T) {
	v := newVictim(t, pair.Options{})
	socket := socketOf(v.alice, "control.sock")
	post := func(head, body string) string {
		return "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + "\r\n" + body
	}
	for _, a := range []struct {
		name string
		play func(c *client)
	}{
		{"noise", func(c *client) { c.say(bytes.Repeat([]byte{0xff, 0, 13, 10}, 4096)); c.hungUp() }},
		{"a request line without end", func(c *client) { c.say("GET /", strings.Repeat("a", 1<<20), " HTTP/1.1\r\n\r\n"); c.hungUp() }},
		{"headers without end", func(c *client) {
			c.say("GET /v1/status HTTP/1.1\r\n", strings.Repeat("X-Y: zzzzzzzzzzzzzzzz\r\n", 1<<16))
			c.hungUp()
		}},
		{"a body of 1 TiB", func(c *client) {
			c.say(post("Content-Length: 1099511627776\r\n", `{"verb":"`), bytes.Repeat([]byte("a"), 1<<20))
			c.hungUp()
		}},
		{"chunks without end", func(c *client) {
			c.say(post("Transfer-Encoding: chunked\r\n", ""), bytes.Repeat([]byte("1000\r\n"+strings.Repeat("a", 4096)+"\r\n"), 256))
			c.hungUp()
		}},
		{"two lengths", func(c *client) { c.say(post("Content-Length: 5\r\nContent-Length: 6\r\n", "{}")); c.hungUp() }},
		{"a negative length", func(c *client) { c.say(post("Content-Length: -1\r\n", "{}")); c.hungUp() }},
		{"JSON a thousand levels deep", func(c *client) {
			body := strings.Repeat("[", 1<<15)
			c.say(post(fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n", len(body)), body))
			c.hungUp()
		}},
		{"verbs that are none", func(c *client) {
			body := `{"verb":"../../bin/sh","resource":"r0; rm -rf /","volume":-7,"peer":"\u0000"}`
			c.say(post(fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n", len(body)), body))
			text, _ := io.ReadAll(c)
			if !bytes.Contains(text, []byte("HTTP/1.1 4")) {
				c.t.Errorf("answered %.200q", text)
			}
		}},
		{"a header that never ends", func(c *client) { c.say("GET /v1/status HTTP/1.1\r\nHost: x\r\n"); c.hungUp() }},
		{"a body that never comes", func(c *client) { c.say(post("Content-Length: 20\r\n", `{"verb"`)); c.hungUp() }},
	} {
		t.Run(a.name, func(t *testing.T) {
			c := dial(t, socket)
			a.play(c)
			_ = c.Close()
			v.unharmed(t)
		})
	}
	t.Run("three hundred that say nothing", func(t *testing.T) { v.controlCrowd(t, socket) })
	v.equal()
}

// controlCrowd: more connections than are served at a time, silent; a verb gets its turn.
func (v *victim) controlCrowd(t *testing.T, socket string) {
	crowd := make([]*client, 0, 300)
	for range 300 {
		crowd = append(crowd, dial(t, socket))
	}
	began := time.Now()
	err := device.Await(v.ctx, func() bool {
		_, err := v.alice.Verb(v.ctx, "status", pair.Resource)
		return err == nil
	})
	if err != nil {
		t.Errorf("verbs are kept out: %v", err)
	}
	t.Logf("a verb waited %v", time.Since(began).Round(time.Millisecond))
	for _, c := range crowd {
		_ = c.Close()
	}
	v.unharmed(t)
}
