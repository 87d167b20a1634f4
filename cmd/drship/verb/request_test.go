package verb

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"drship/cmd/drship/control"
	"drship/internal/state"
)

func TestVerbsSendRequests(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	one := func(verb, resource string, volume int, peer string, options ...string) []control.Request {
		r := control.Request{Verb: verb, Resource: resource, Volume: volume, Peer: peer}
		for i := 0; i < len(options); i += 2 {
			if r.Options == nil {
				r.Options = map[string]string{}
			}
			r.Options[options[i]] = options[i+1]
		}
		return []control.Request{r}
	}
	for line, want := range map[string][]control.Request{
		"up all":                            one("up", "all", -1, ""),
		"down r0":                           one("down", "r0", -1, ""),
		"attach r0/1":                       one("attach", "r0", 1, ""),
		"detach --force r0":                 one("detach", "r0", -1, "", "force", "yes"),
		"connect --discard-my-data r0":      one("connect", "r0", -1, "", "discard-my-data", "yes"),
		"connect --tentative r0:bob":        one("connect", "r0", -1, "bob", "tentative", "yes"),
		"disconnect --force r0:bob":         one("disconnect", "r0", -1, "bob", "force", "yes"),
		"primary r0 --force":                one("primary", "r0", -1, "", "force", "yes"),
		"primary -f r0":                     one("primary", "r0", -1, "", "force", "yes"),
		"primary --force=no r0":             one("primary", "r0", -1, "", "force", "no"),
		"secondary --force=yes r0":          one("secondary", "r0", -1, "", "force", "yes"),
		"role r0":                           one("role", "r0", -1, ""),
		"cstate r0:bob":                     one("cstate", "r0", -1, "bob"),
		"dstate r0/0":                       one("dstate", "r0", 0, ""),
		"create-md --force r0":              one("create-md", "r0", -1, "", "force", "yes"),
		"create-md --size 1G r0":            one("create-md", "r0", -1, "", "size", "1073741824"),
		"invalidate r0:bob/1":               one("invalidate", "r0", 1, "bob"),
		"invalidate --reset-bitmap=no r0":   one("invalidate", "r0", -1, "", "reset-bitmap", "no"),
		"invalidate-remote r0":              one("invalidate-remote", "r0", -1, ""),
		"pause-sync r0":                     one("pause-sync", "r0", -1, ""),
		"resume-sync r0":                    one("resume-sync", "r0", -1, ""),
		"pause r0":                          one("pause", "r0", -1, ""),
		"resume r0":                         one("resume", "r0", -1, ""),
		"outdate r0":                        one("outdate", "r0", -1, ""),
		"suspend-io r0":                     one("suspend-io", "r0", -1, ""),
		"resume-io r0":                      one("resume-io", "r0", -1, ""),
		"verify --start 8 --stop 1M r0/0":   one("verify", "r0", 0, "", "start", "4096", "stop", "1048576"),
		"new-current-uuid --clear-bitmap r": one("new-current-uuid", "r", -1, "", "clear-bitmap", "yes"),
		"adjust all":                        one("adjust", "all", -1, ""),
		"show-gi r0/0":                      one("show-gi", "r0", 0, ""),
		"get-gi r0":                         one("get-gi", "r0", -1, ""),
		"explain r0":                        one("explain", "r0", -1, ""),
		"down r0 r1":                        append(one("down", "r0", -1, ""), one("down", "r1", -1, "")...),
	} {
		before := len(f.seen())
		got := f.call(t, nil, strings.Fields(line)...)
		if sent := f.seen()[before:]; got.code != 0 || !reflect.DeepEqual(sent, want) {
			t.Errorf("%s: exit %d, %q; sent %+v, want %+v", line, got.code, got.err, sent, want)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	for line, want := range map[string]string{
		"":                            "", // help
		"frobnicate":                  "unknown command",
		"primary":                     "name a resource, or all",
		"primary --frobnicate r0":     "unknown flag",
		"primary --force=perhaps r0":  "want yes or no",
		"primary r0/x":                "volume must be a number",
		"primary r0/256":              "volume must be a number",
		"primary r0:":                 "is not a resource",
		"primary /1":                  "is not a resource",
		"primary all r0":              "all stands alone",
		"primary all/1":               "all stands alone",
		"verify --start 1X r0":        "want a number",
		"verify --start -1 r0":        "want a number",
		"verify --start 99999999P r0": "want a number",
		"wait-sync --timeout x r0":    "want seconds",
		"wait-sync":                   "name a resource",
		"proc --shape 5":              "want 8.4, 8.3 or 0.7",
		"pair --show --remove bob":    "",
		"pair bob":                    "want NAME FINGERPRINT",
		"daemon r0":                   "unknown command",
		"daemon --log-level loud":     "want debug, info, warn or error",
		"daemon --log-format xml":     "want text or json",
		"device attach all":           "is not a volume",
		"device attach r0:bob":        "is not a volume",
	} {
		got := f.call(t, nil, strings.Fields(line)...)
		wantCode := exitUsage
		if line == "" {
			wantCode = 0
		}
		if got.code != wantCode || !strings.Contains(got.err, want) || wantCode != 0 && !strings.Contains(got.err, "hint: see: drship") {
			t.Errorf("%q: exit %d, %q; want %d, %q", line, got.code, got.err, wantCode, want)
		}
	}
	if sent := f.seen(); len(sent) != 0 {
		t.Errorf("bad lines reached the node: %+v", sent)
	}
}

func TestAnswersAndExitCodes(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	refuse := func(code int, text string) control.Result {
		return control.Result{Resource: "r0", Code: code, Text: text}
	}
	for name, c := range map[string]struct {
		reply control.Reply
		err   error
		want  result
	}{
		"done":      {reply: control.Reply{Results: []control.Result{{Resource: "r0"}}}},
		"answer":    {reply: control.Reply{Results: []control.Result{{Resource: "r0", Lines: []string{"a", "b"}, Text: "remark"}}}, want: result{out: "a\nb\nremark\n"}},
		"-2":        {reply: control.Reply{Results: []control.Result{refuse(state.SSNoUpToDateDisk, "Need access to UpToDate data")}}, want: result{err: "drship: r0: State change failed: (-2) Need access to UpToDate data\n", code: 17}},
		"-12":       {reply: control.Reply{Results: []control.Result{refuse(state.SSDeviceInUse, "Device is held open by someone")}}, want: result{err: "drship: r0: State change failed: (-12) Device is held open by someone\n", code: 11}},
		"-4":        {reply: control.Reply{Results: []control.Result{refuse(state.SSNoLocalDisk, "x")}}, want: result{err: "drship: r0: State change failed: (-4) x\n", code: 16}},
		"-16":       {reply: control.Reply{Results: []control.Result{refuse(state.SSLowerThanOutdated, "x")}}, want: result{err: "drship: r0: State change failed: (-16) x\n", code: 5}},
		"127":       {reply: control.Reply{Results: []control.Result{refuse(127, "Device minor not allocated")}}, want: result{err: "drship: r0: Failure: (127) Device minor not allocated\n", code: 10}},
		"exit wins": {reply: control.Reply{Results: []control.Result{{Resource: "r0", Exit: 40, Text: "metadata is there", Hint: "use\n--force"}}}, want: result{err: "drship: r0: metadata is there\n  hint: use\n        --force\n", code: 40}},
		"worst": {reply: control.Reply{Results: []control.Result{refuse(state.SSDeviceInUse, "a"), {Resource: "r1", Lines: []string{"fine"}}, refuse(state.SSNoUpToDateDisk, "b"), refuse(127, "c")}},
			want: result{out: "fine\n", err: "drship: r0: State change failed: (-12) a\ndrship: r0: State change failed: (-2) b\ndrship: r0: Failure: (127) c\n", code: 17}},
		"error":     {err: &control.Error{What: "r9", Text: "not defined in your config (for this host).", Exit: 1}, want: result{err: "drship: r9: not defined in your config (for this host).\n", code: 1}},
		"plain":     {err: errors.New("disk on fire"), want: result{err: "drship: disk on fire\n", code: 10}},
		"refusal":   {err: state.Refused(state.SSTwoPrimaries, "bob is").Err(), want: result{err: "drship: State change failed: (-1) Multiple primaries not allowed by config\n  hint: bob is\n", code: 11}},
		"timed out": {err: context.DeadlineExceeded, want: result{err: "drship: context deadline exceeded\n", code: 5}},
	} {
		f.answer = func(control.Request) (control.Reply, error) { return c.reply, c.err }
		if got := f.call(t, nil, "primary", "r0"); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestLoopStopsAtHardFailure(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	f.answer = func(r control.Request) (control.Reply, error) {
		return control.Reply{}, &control.Error{What: r.Resource, Text: "x", Exit: map[string]int{"a": 10, "b": 20, "c": 10}[r.Resource]}
	}
	if got := f.call(t, nil, "up", "a", "b", "c"); got.code != 20 || got.err != "drship: a: x\ndrship: b: x\n" {
		t.Errorf("got %+v", got)
	}
}

func TestWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{"up r0", "status", "status --watch", "wait-sync r0", "events2", "proc", "role r0", "create-md r0"} {
		got := execute(t.Context(), Deps{}, append([]string{"drship", "--run-dir", dir}, strings.Fields(line)...)...)
		if got.code != 20 || !strings.Contains(got.err, "no drship daemon") || !strings.Contains(got.err, "drship daemon --run-dir "+dir) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	var seen NodeOptions
	offline := func(_ context.Context, o NodeOptions, r control.Request) (control.Reply, error) {
		seen = o
		if r.Resource == "bad" {
			return control.Reply{}, errors.New("no disk")
		}
		return control.Reply{Results: []control.Result{{Resource: r.Resource, Lines: []string{"made " + r.Options["force"]}}}}, nil
	}
	got := execute(t.Context(), Deps{Offline: offline}, "drship", "--run-dir", dir, "--state-dir", "s", "--node", "n", "-c", "f", "create-md", "--force", "r0")
	if got != (result{out: "made yes\n"}) || seen != (NodeOptions{ConfigFile: "f", StateDir: "s", RunDir: dir, Node: "n"}) {
		t.Errorf("offline create-md: %+v, %+v", got, seen)
	}
	if got := execute(t.Context(), Deps{Offline: offline}, "drship", "--run-dir", dir, "create-md", "bad"); got.code != 10 || got.err != "drship: create-md bad: no disk\n" {
		t.Errorf("offline create-md that fails: %+v", got)
	}
	// A daemon that answers is asked, whether it succeeds or not.
	f := &fakeNode{answer: func(control.Request) (control.Reply, error) {
		return control.Reply{}, &control.Error{Text: "busy", Exit: 20}
	}}
	f.serve(t)
	if got := f.call(t, &Deps{Offline: offline}, "create-md", "r0"); got.code != 20 || got.err != "drship: busy\n" {
		t.Errorf("create-md with a daemon: %+v", got)
	}
}

func TestInterruptedVerb(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.answer = func(control.Request) (control.Reply, error) { cancel(); return control.Reply{}, nil }
	got := execute(ctx, Deps{}, "drship", "--run-dir", f.dir, "up", "r0")
	if got.code != exitInterrupted && got.code != 0 {
		t.Errorf("interrupted verb: %+v", got)
	}
	got = execute(ctx, Deps{}, "drship", "--run-dir", f.dir, "up", "r0") // begins interrupted
	if got.code != exitInterrupted || got.err != "drship: interrupted\n" {
		t.Errorf("verb after the interrupt: %+v", got)
	}
}

func TestEnvironment(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	env := map[string]string{"DRSHIP_RUN_DIR": f.dir}
	d := Deps{Getenv: func(k string) string { return env[k] }}
	if got := execute(t.Context(), d, "drship", "up", "r0"); got.code != 0 {
		t.Errorf("run directory from the environment: %+v", got)
	}
	if got := execute(t.Context(), d, "drship", "--run-dir", t.TempDir(), "up", "r0"); got.code != 20 {
		t.Errorf("an option must win over the environment: %+v", got)
	}
	var seen NodeOptions
	d.Offline = func(_ context.Context, o NodeOptions, _ control.Request) (control.Reply, error) {
		seen = o
		return control.Reply{}, nil
	}
	env = map[string]string{"DRSHIP_RUN_DIR": "/nonexistent/run", "DRSHIP_STATE_DIR": "/s", "DRSHIP_NODE": "carol", "DRSHIP_CONFIG": "/c"}
	execute(t.Context(), d, "drship", "create-md", "r0")
	if seen != (NodeOptions{ConfigFile: "/c", StateDir: "/s", RunDir: "/nonexistent/run", Node: "carol"}) {
		t.Errorf("environment gave %+v", seen)
	}
}
