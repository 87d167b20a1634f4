package verb

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"drship/internal/face"
	"drship/internal/state"
)

func TestStatusShapes(t *testing.T) {
	f := &fakeNode{status: []face.Resource{healthy("r0"), healthy("r1")}}
	f.serve(t)
	got := f.call(t, nil, "status", "r1")
	if got.code != 0 || !strings.HasPrefix(got.out, "r1 role:Primary\n") || strings.Contains(got.out, "r0") {
		t.Errorf("status: %+v", got)
	}
	got = f.call(t, nil, "status", "--json")
	var rs []struct {
		Name string
		Role string
	}
	if err := json.Unmarshal([]byte(got.out), &rs); err != nil || len(rs) != 2 || rs[1].Name != "r1" || rs[1].Role != "Primary" {
		t.Errorf("status --json: %v, %+v", err, got)
	}
	if plain, verbose := f.call(t, nil, "status"), f.call(t, nil, "status", "--verbose", "--statistics"); len(verbose.out) <= len(plain.out) || !strings.Contains(verbose.out, "out-of-sync:0") {
		t.Errorf("status --verbose --statistics: %q", verbose.out)
	}
	if got := f.call(t, nil, "status", "r9"); got.code != 10 || !strings.Contains(got.err, "r9: Failure: (158) Unknown resource") {
		t.Errorf("status of an unknown resource: %+v", got)
	}
	if got := f.call(t, nil, "proc"); got.code != 0 || !strings.HasPrefix(got.out, "version: 8.4.11 (api:1/proto:86-101)\n") ||
		!strings.Contains(got.out, " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n") {
		t.Errorf("proc: %+v", got)
	}
	if got := f.call(t, nil, "proc", "--shape", "0.7"); !strings.Contains(got.out, "cs:Connected st:Primary/Secondary ld:Consistent") {
		t.Errorf("proc 0.7: %+v", got)
	}
	if got := f.call(t, nil, "overview"); got.code != 0 || !strings.Contains(got.out, "Connected") || !strings.Contains(got.out, "Primary/Secondary") {
		t.Errorf("overview: %+v", got)
	}
	f.status = nil
	if got := f.call(t, nil, "status"); got.code != 0 || got.out != "" || !strings.Contains(got.err, "No resource is up") {
		t.Errorf("status of nothing: %+v", got)
	}
	if got := f.call(t, nil, "status", "--json"); got.code != 0 || strings.TrimSpace(got.out) != "[]" {
		t.Errorf("status --json of nothing: %+v", got)
	}
	f.call(t, nil, "status", "all")
	if last := f.asked[len(f.asked)-1]; last != nil {
		t.Errorf("status all asked for %q", last)
	}
}

// script sends the snapshots one after another, each once the reader took the one before, then ends as a daemon does that stops.
func script(rs ...[]face.Resource) func(context.Context, func([]face.Resource) bool) {
	return func(_ context.Context, send func([]face.Resource) bool) {
		for _, r := range rs {
			if !send(r) {
				return
			}
		}
	}
}

func TestWatchPrintsWhatChanged(t *testing.T) {
	demoted := healthy("r0")
	demoted.Role = state.Secondary
	f := &fakeNode{watch: script([]face.Resource{healthy("r0")}, []face.Resource{healthy("r0")}, []face.Resource{demoted})}
	stop := f.serve(t)
	got := f.call(t, nil, "status", "--watch", "--json")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if got.code != 20 || !strings.Contains(got.err, "daemon went away") {
		t.Errorf("watch of a daemon that stops: %+v", got)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not one JSON text a line: %q", line)
		}
	}
	if last := lines[len(lines)-1]; len(lines) > 2 || !strings.Contains(last, `"role":"Secondary"`) {
		t.Errorf("watch printed %d lines, the last %q", len(lines), last)
	}
	stop()
}

func TestEvents2(t *testing.T) {
	f := &fakeNode{status: []face.Resource{healthy("r0")}}
	f.serve(t)
	got := f.call(t, nil, "events2", "--now", "r0")
	if got.code != 0 || !strings.HasPrefix(got.out, "exists resource name:r0 role:Primary") || !strings.HasSuffix(got.out, "exists -\n") {
		t.Errorf("events2 --now: %+v", got)
	}
	got = f.call(t, nil, "events2", "--now", "--timestamps", "--statistics")
	first, _, _ := strings.Cut(got.out, " ")
	if at, err := time.Parse("2006-01-02T15:04:05.000000-07:00", first); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("timestamp %q: %v", first, err)
	}
	if !strings.Contains(got.out, "write-ordering:flush") {
		t.Errorf("no statistics in %q", got.out)
	}

	demoted := healthy("r0")
	demoted.Role = state.Secondary
	taken := make(chan struct{})
	f.watch = func(ctx context.Context, send func([]face.Resource) bool) {
		send([]face.Resource{healthy("r0")})
		<-taken // the second must not replace the first
		send([]face.Resource{demoted})
	}
	w := &noticing{when: "exists -\n", notice: taken}
	d := Deps{Args: []string{"drship", "--run-dir", f.dir, "events2", "r0"}, Stdout: w, Stderr: &strings.Builder{}, Getenv: func(string) string { return "" }}
	if code := Main(t.Context(), d); code != 20 {
		t.Errorf("events2 of a daemon that stops: exit %d", code)
	}
	_, tail, _ := strings.Cut(w.text.String(), "exists -\n")
	if !strings.HasPrefix(tail, "change resource name:r0 role:Secondary") {
		t.Errorf("after the dump: %q", tail)
	}
}

// noticing closes a channel when a text was written.
type noticing struct {
	text   strings.Builder
	when   string
	notice chan struct{}
	done   bool
}

func (n *noticing) Write(p []byte) (int, error) {
	n.text.Write(p)
	if !n.done && strings.Contains(n.text.String(), n.when) {
		n.done = true
		close(n.notice)
	}
	return len(p), nil
}

func TestWaits(t *testing.T) {
	at := func(c state.Conn, d, pd state.Disk) []face.Resource {
		return []face.Resource{pairOf("r0", state.Primary, state.Secondary, c, d, pd)}
	}
	waiting := at(state.WFConnection, state.UpToDate, state.DUnknown)
	syncing := at(state.SyncSource, state.UpToDate, state.Inconsistent)
	synced := at(state.Connected, state.UpToDate, state.UpToDate)
	alone := at(state.StandAlone, state.UpToDate, state.DUnknown)
	alone[0].Peers[0].Error = "split brain"
	two := []face.Resource{synced[0], pairOf("r1", state.Primary, state.Secondary, state.WFConnection, state.UpToDate, state.DUnknown)}
	stay := func(last []face.Resource) func(context.Context, func([]face.Resource) bool) {
		return func(ctx context.Context, send func([]face.Resource) bool) {
			if send(last) {
				<-ctx.Done()
			}
		}
	}
	for name, c := range map[string]struct {
		watch func(context.Context, func([]face.Resource) bool)
		line  string
		code  int
		text  string
	}{
		"connects":             {script(waiting, waiting, syncing), "wait-connect r0", 0, ""},
		"syncs":                {script(waiting, syncing, synced), "wait-sync r0", 0, ""},
		"verifies":             {script(at(state.VerifyS, state.UpToDate, state.UpToDate)), "wait-sync r0", 0, ""},
		"all":                  {script(two, []face.Resource{synced[0]}), "wait-connect all", 0, ""},
		"other resource":       {script(two), "wait-connect r0", 0, ""},
		"other peer":           {script(waiting), "wait-connect r0:carol", 0, ""},
		"nothing up":           {script(nil), "wait-connect all", 0, ""},
		"both inconsistent":    {stay(at(state.Connected, state.Inconsistent, state.Inconsistent)), "wait-sync -t 10ms r0", 5, "time is up"},
		"connect times out":    {stay(waiting), "wait-connect --timeout 400ms r0", 5, "wait-connect: time is up, r0: peer bob is WFConnection"},
		"sync times out":       {stay(syncing), "wait-sync --timeout 400ms r0", 5, "r0: peer bob is SyncSource"},
		"stand-alone":          {script(alone), "wait-connect r0", 5, "StandAlone and will not connect by itself: split brain"},
		"stand-alone, patient": {script(alone, synced), "wait-connect --wait-after-sb r0", 0, ""},
		"not up":               {script(synced), "wait-sync r9", 10, "(158) Unknown resource"},
		"goes down":            {script(waiting, nil), "wait-connect r0", 10, "(158) Unknown resource"},
		"daemon dies":          {script(waiting), "wait-connect r0", 20, "daemon went away"},
		"other volume":         {stay(synced), "wait-sync r0/0", 0, ""},
	} {
		f := &fakeNode{watch: c.watch}
		stop := f.serve(t)
		if got := f.call(t, nil, strings.Fields(c.line)...); got.code != c.code || !strings.Contains(got.err, c.text) || c.code == 0 && got.err != "" {
			t.Errorf("%s: %+v, want exit %d, %q", name, got, c.code, c.text)
		}
		stop()
	}
}

func TestMeter(t *testing.T) {
	var b strings.Builder
	m := &meter{w: &b, width: func() int { return 120 }}
	quiet := healthy("r0")
	m.draw([]face.Resource{quiet})
	if b.Len() != 0 {
		t.Errorf("drew %q without a resync", b.String())
	}
	busy := pairOf("r1", state.Primary, state.Secondary, state.SyncSource, state.UpToDate, state.Inconsistent)
	busy.Peers[0].Volumes[0].Sync = &face.Progress{Total: 1 << 30, Left: 1 << 29, Rate: 1 << 20, ETA: 512 * time.Second}
	slow := pairOf("r2", state.Primary, state.Secondary, state.SyncSource, state.UpToDate, state.Inconsistent)
	slow.Peers[0].Volumes[0].Sync = &face.Progress{Total: 4 << 30, Left: 3 << 30, Rate: 1 << 20, ETA: time.Hour}
	m.draw([]face.Resource{quiet, busy, slow})
	if s := b.String(); !strings.HasPrefix(s, "\r\x1b[Kr2/0 SyncSource bob ") || !strings.Contains(s, "25.0 %") || !strings.HasSuffix(s, " (+1)") || len(s) > 120+5 {
		t.Errorf("drew %q", s)
	}
	m.end()
	m.end()
	if n := strings.Count(b.String(), "\n"); n != 1 {
		t.Errorf("%d newlines at the end", n)
	}
	var none *meter
	none.draw([]face.Resource{busy})
	none.end()
}

func TestCompletion(t *testing.T) {
	f := &fakeNode{status: []face.Resource{healthy("r0"), healthy("web")}}
	f.serve(t)
	complete := func(args ...string) []string {
		got := f.call(t, nil, append([]string{"__complete"}, args...)...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		return lines[:len(lines)-1] // the last is a number for the shell
	}
	if got := complete("--run-dir", f.dir, "primary", ""); !reflect.DeepEqual(got, []string{"r0", "web", "all"}) {
		t.Errorf("names: %q", got)
	}
	if got := complete("--run-dir", f.dir, "primary", "r0", ""); !reflect.DeepEqual(got, []string{"web"}) {
		t.Errorf("names behind r0: %q", got)
	}
	if got := strings.Join(complete("pri"), " "); !strings.Contains(got, "primary") {
		t.Errorf("verbs: %q", got)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := f.call(t, nil, "completion", shell); got.code != 0 || !strings.Contains(got.out, "drship") {
			t.Errorf("completion %s: %+v", shell, got)
		}
	}
}
