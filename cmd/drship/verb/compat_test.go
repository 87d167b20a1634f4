package verb

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"drship/cmd/drship/control"
	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/setup"
	"drship/internal/state"
)

// recordedConfig is the file under which a real DRBD 8.4 pair printed the golden texts below.
const recordedConfig = `global { usage-count no; }
common { }
resource r0 {
  protocol C;
  net {
    verify-alg crc32c;
  }
  disk {
    c-plan-ahead 0; resync-rate 4194304k;
  }
  on alice { device /dev/drbd0; disk /dev/backing; address 10.77.0.1:7788; meta-disk internal; }
  on bob   { device /dev/drbd0; disk /dev/backing; address 10.77.0.2:7788; meta-disk internal; }
}
`

// as runs a command line under the name of its first word, against the node f (nil for none).
func as(t *testing.T, f *fakeNode, config, line string) result {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "drbd.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DRSHIP_CONFIG": path, "DRSHIP_NODE": "alice", "DRSHIP_RUN_DIR": filepath.Join(dir, "run")}
	if f != nil {
		env["DRSHIP_RUN_DIR"] = f.dir
	}
	args := strings.Fields(line)
	args[0] = "/usr/sbin/" + args[0]
	return execute(t.Context(), Deps{Getenv: func(k string) string { return env[k] }}, args...)
}

func TestDryRunsAsRecorded(t *testing.T) {
	up := `drbdsetup-84 new-resource r0
drbdsetup-84 new-minor r0 0 0
drbdmeta 0 v08 /dev/backing internal apply-al
drbdsetup-84 attach 0 /dev/backing /dev/backing internal --resync-rate=4194304k --c-plan-ahead=0
drbdsetup-84 connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --protocol=C --verify-alg=crc32c
`
	for line, want := range map[string]string{
		"drbdadm -d up r0":                                   up,
		"drbdadm --dry-run up all":                           up,
		"drbdadm -d adjust r0":                               up,
		"drbdadm -d create-md r0":                            "drbdmeta 0 v08 /dev/backing internal create-md\n",
		"drbdadm -d primary --force r0":                      "drbdsetup-84 primary 0 --force\n",
		"drbdadm -d -- --overwrite-data-of-peer primary all": "drbdsetup-84 primary 0 --force\n",
		"drbdadm -d connect r0":                              "drbdsetup-84 connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --protocol=C --verify-alg=crc32c\n",
		"drbdadm -d -- --discard-my-data connect r0":         "drbdsetup-84 connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --protocol=C --verify-alg=crc32c --discard-my-data\n",
		"drbdadm -d disconnect r0":                           "drbdsetup-84 disconnect ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788\n",
		"drbdadm -dv down r0":                                "drbdsetup-84 down r0\n",
		"drbdadm -d down r0":                                 "drbdsetup-84 down r0\n",
		"drbdadm -d verify r0":                               "drbdsetup-84 verify 0\n",
		"drbdadm sh-resources":                               "r0\n",
		"drbdadm sh-dev r0":                                  "/dev/drbd0\n",
		"drbdadm sh-ll-dev r0":                               "/dev/backing\n",
		"drbdadm sh-md-dev r0":                               "/dev/backing\n",
		"drbdadm sh-ip r0":                                   "10.77.0.1\n",
		"drbdadm sh-minor r0":                                "0\n",
		"drbdadm sh-mod-parms":                               "minor_count=32\n",
		"drbdadm sh-nop":                                     "",
		"drbdadm sh-md-idx all":                              "internal\n",
	} {
		if got := as(t, nil, recordedConfig, line); got != (result{out: want}) {
			t.Errorf("%s: %+v\nwant %q", line, got, want)
		}
	}
}

func TestDryAdjustPrintsWhatDiffers(t *testing.T) {
	c, err := config.Parse("t.conf", []byte(recordedConfig), config.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host, err := c.Resources[0].Local("alice")
	if err != nil {
		t.Fatal(err)
	}
	running := setup.Of(c.Resources[0], host, c.Resources[0].Peers("alice"))
	f := &fakeNode{answer: func(q control.Request) (control.Reply, error) {
		raw, err := json.Marshal(running)
		return control.Reply{Results: []control.Result{{Resource: "r0", Lines: []string{string(raw)}}}}, err
	}}
	f.serve(t)
	if got := as(t, f, recordedConfig, "drbdadm -d adjust r0"); got != (result{}) {
		t.Errorf("all runs as configured: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdadm sh-list-adjustable"); got != (result{}) {
		t.Errorf("sh-list-adjustable, all as configured: %+v", got)
	}
	running.Peers[0].Connect = false
	if got := as(t, f, recordedConfig, "drbdadm -d adjust r0"); !strings.HasPrefix(got.out, "drbdsetup-84 connect r0 ipv4:") || strings.Count(got.out, "\n") != 1 {
		t.Errorf("stand-alone: %+v", got)
	}
	running.Volumes[0].Disk = ""
	if got := as(t, f, recordedConfig, "drbdadm -d adjust all"); !strings.Contains(got.out, "drbdsetup-84 attach 0 /dev/backing") || strings.Count(got.out, "\n") != 3 {
		t.Errorf("diskless: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdadm sh-list-adjustable"); got.out != "r0\n" {
		t.Errorf("sh-list-adjustable: %+v", got)
	}
	for _, q := range f.seen() {
		if q.Verb != "show" {
			t.Errorf("a dry run did something: %+v", q)
		}
	}
}

func TestRefusalsAsRecorded(t *testing.T) {
	f := &fakeNode{}
	f.serve(t)
	for line, c := range map[string]struct {
		code int
		want result
	}{
		"drbdadm primary r0":    {-2, result{err: "0: State change failed: (-2) Need access to UpToDate data\nCommand 'drbdsetup-84 primary 0' terminated with exit code 17\n", code: 17}},
		"drbdadm secondary r0":  {-12, result{err: "0: State change failed: (-12) Device is held open by someone\nCommand 'drbdsetup-84 secondary 0' terminated with exit code 11\n", code: 11}},
		"drbdadm down r0":       {-12, result{err: "r0: State change failed: (-12) Device is held open by someone\nadditional info from kernel:\nfailed to demote\nCommand 'drbdsetup-84 down r0' terminated with exit code 11\n", code: 11}},
		"drbdadm cstate r0":     {127, result{err: "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\nCommand 'drbdsetup-84 cstate 0' terminated with exit code 10\n", code: 10}},
		"drbdadm role r0":       {127, result{err: "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\nCommand 'drbdsetup-84 role 0' terminated with exit code 10\n", code: 10}},
		"drbdadm status r0":     {0, result{err: "r0: No such resource\nCommand 'drbdsetup-84 status r0' terminated with exit code 10\n", code: 10}},
		"drbdadm status":        {0, result{err: "r0: No such resource\nCommand 'drbdsetup-84 status r0' terminated with exit code 10\n", code: 10}},
		"drbdadm connect r0":    {102, result{err: "r0: Failure: (102) Local address(port) already in use.\nCommand 'drbdsetup-84 connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --protocol=C --verify-alg=crc32c' terminated with exit code 10\n", code: 10}},
		"drbdsetup primary 0":   {-2, result{err: "0: State change failed: (-2) Need access to UpToDate data\n", code: 17}},
		"drbdsetup role 7":      {0, result{err: "7: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\n", code: 10}},
		"drbdadm primary r9":    {0, result{err: "'r9' not defined in your config (for this host).\n", code: 1}},
		"drbdadm frobnicate r0": {0, result{err: "drbdadm: Unknown command 'frobnicate'\n", code: 1}},
		"drbdadm --frob up r0":  {0, result{err: "drbdadm: unrecognized option '--frob'\ntry 'drbdadm help'\n", code: 1}},
	} {
		f.answer = func(r control.Request) (control.Reply, error) {
			return control.Reply{Results: []control.Result{{Resource: r.Resource, Code: c.code, Text: state.CodeText(c.code)}}}, nil
		}
		if got := as(t, f, recordedConfig, line); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", line, got, c.want)
		}
	}
}

func TestFailedCalls(t *testing.T) {
	f := &fakeNode{answer: func(r control.Request) (control.Reply, error) {
		return control.Reply{Results: []control.Result{{Resource: r.Resource, Exit: 40, Text: "metadata is there\nOperation refused.", Hint: "use --force"}}}, nil
	}}
	f.serve(t)
	want := result{err: "metadata is there\nOperation refused.\nuse --force\nCommand 'drbdmeta 0 v08 /dev/backing internal create-md' terminated with exit code 40\n" +
		"drbdadm create-md r0: exited with code 40\n", code: 40}
	if got := as(t, f, recordedConfig, "drbdadm create-md r0"); got != want {
		t.Errorf("create-md refused: %+v", got)
	}
	f.answer = func(r control.Request) (control.Reply, error) {
		return control.Reply{}, &control.Error{Code: 125, What: r.Resource, Text: "x"}
	}
	secret := strings.Replace(recordedConfig, "verify-alg crc32c;", `cram-hmac-alg sha1; shared-secret "be hush";`, 1)
	if got := as(t, f, secret, "drbdadm connect r0"); got.code != 10 || strings.Contains(got.err, "hush") || !strings.Contains(got.err, "--shared-secret=...") {
		t.Errorf("a failure tells the secret: %+v", got)
	}
}

func TestCompatibleNamesSendRequests(t *testing.T) {
	f := &fakeNode{status: []face.Resource{healthy("r0")}}
	f.serve(t)
	for line, want := range map[string]control.Request{
		"drbdadm -- --overwrite-data-of-peer primary r0":                  {Verb: "primary", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdadm primary r0 -- --overwrite-data-of-peer":                  {Verb: "primary", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdadm -- --do-what-I-say primary all":                          {Verb: "primary", Resource: "all", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdadm -- --discard-my-data connect r0":                         {Verb: "connect", Resource: "r0", Volume: -1, Options: map[string]string{"discard-my-data": "yes", "once": "yes"}},
		"drbdadm connect --discard-my-data r0":                            {Verb: "connect", Resource: "r0", Volume: -1, Options: map[string]string{"discard-my-data": "yes", "once": "yes"}},
		"drbdadm -- --force create-md r0":                                 {Verb: "create-md", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdadm create-md r0 -W--force":                                  {Verb: "create-md", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdadm -W --force primary r0":                                   {Verb: "primary", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdadm -P bob state all":                                        {Verb: "role", Resource: "r0", Volume: -1, Peer: "bob"},
		"drbdadm net-options --protocol A --ping-int=7 r0:bob":            {Verb: "net-options", Resource: "r0", Volume: -1, Peer: "bob", Options: map[string]string{"protocol": "A", "ping-int": "7"}},
		"drbdadm -- --c-max-rate=10M --disk-flushes=no disk-options r0/0": {Verb: "disk-options", Resource: "r0", Volume: 0, Options: map[string]string{"c-max-rate": "10M", "disk-flushes": "no"}},
		"drbdadm -W --set-defaults resource-options all":                  {Verb: "resource-options", Resource: "all", Volume: -1, Options: map[string]string{"set-defaults": "yes"}},
		"drbdadm syncer r0":                                               {Verb: "syncer", Resource: "r0", Volume: -1},
		"drbdadm split-brain r0":                                          {Verb: "run-handler", Resource: "r0", Volume: -1, Options: map[string]string{"handler": "split-brain"}},
		"drbdadm forget-peer r0:bob":                                      {Verb: "forget-peer", Resource: "r0", Volume: -1, Peer: "bob"},
		"drbdsetup /dev/drbd0 syncer -r 10M":                              {Verb: "disk-options", Resource: "r0", Volume: -1, Options: map[string]string{"resync-rate": "10485760"}},
		"drbdsetup net-options ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --set-defaults --protocol=C": {Verb: "net-options", Resource: "r0", Volume: -1, Peer: "bob",
			Options: map[string]string{"set-defaults": "yes", "protocol": "C"}},
		"drbdsetup connect r0 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788 --protocol=C": {Verb: "connect", Resource: "r0", Volume: -1, Peer: "bob", Options: map[string]string{"protocol": "C"}},
		"drbdsetup attach 0 /dev/backing /dev/backing internal --al-extents=257":    {Verb: "attach", Resource: "r0", Volume: -1, Options: map[string]string{"al-extents": "257"}},
		"drbdsetup peer-device-options r0 1 0 --c-max-rate=5M":                      {Verb: "peer-device-options", Resource: "r0", Volume: 0, Peer: "bob", Options: map[string]string{"c-max-rate": "5M"}},
		"drbdsetup new-minor r0 0 0":                                                {Verb: "new-minor", Resource: "r0", Volume: 0},
		"drbdsetup new-path r0 1 ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788":           {Verb: "new-path", Resource: "r0", Volume: -1, Peer: "bob"},
		"drbdadm adjust-with-progress all":                                          {Verb: "adjust", Resource: "all", Volume: -1},
		"drbdadm invalidate r0:bob/0":                                               {Verb: "invalidate", Resource: "r0", Volume: 0, Peer: "bob"},
		"drbdadm verify --start=8 r0":                                               {Verb: "verify", Resource: "r0", Volume: -1, Options: map[string]string{"start": "4096"}},
		"drbdadm new-current-uuid --clear-bitmap r0/0":                              {Verb: "new-current-uuid", Resource: "r0", Volume: 0, Options: map[string]string{"clear-bitmap": "yes"}},
		"drbdsetup /dev/drbd0 primary -o":                                           {Verb: "primary", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
		"drbdsetup secondary 0":                                                     {Verb: "secondary", Resource: "r0", Volume: -1},
		"drbdsetup down r0":                                                         {Verb: "down", Resource: "r0", Volume: -1},
		"drbdsetup disconnect ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788":              {Verb: "disconnect", Resource: "r0", Volume: -1, Peer: "bob"},
		"drbdsetup disconnect r0 1":                                                 {Verb: "disconnect", Resource: "r0", Volume: -1, Peer: "bob"},
		"drbdsetup get-gi 0":                                                        {Verb: "get-gi", Resource: "r0", Volume: -1},
		"drbdmeta 0 v08 /dev/backing internal get-gi":                               {Verb: "get-gi", Resource: "r0", Volume: -1},
		"drbdmeta --force /dev/drbd0 v09 /dev/backing internal create-md 1":         {Verb: "create-md", Resource: "r0", Volume: -1, Options: map[string]string{"force": "yes"}},
	} {
		before := len(f.seen())
		got := as(t, f, recordedConfig, line)
		sent := f.seen()[before:]
		if got.code != 0 || len(sent) != 1 || !reflect.DeepEqual(sent[0], want) {
			t.Errorf("%s: %+v, sent %+v; want %+v", line, got, sent, want)
		}
	}
}

func TestCompatibleOutput(t *testing.T) {
	one := healthy("r0")
	f := &fakeNode{status: []face.Resource{one}}
	f.serve(t)
	status := "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    replication:Established peer-disk:UpToDate\n\n"
	one.Peers[0].Name = "peer" // what the recorded kernel called it
	for line, want := range map[string]string{
		"drbdadm status":              status,
		"drbdadm status r0":           status,
		"drbdadm status r0 --verbose": "drbdsetup-84 status r0\n" + status,
		"drbdsetup status":            status,
		"drbdsetup status r0":         status,
		"drbdsetup events2 --now":     "exists resource name:r0 role:Primary suspended:no\nexists connection name:r0 peer-node-id:1 conn-name:peer connection:Connected role:Secondary\nexists device name:r0 volume:0 minor:0 disk:UpToDate\nexists peer-device name:r0 peer-node-id:1 conn-name:peer volume:0 replication:Established peer-disk:UpToDate resync-suspended:no\nexists -\n",
	} {
		if got := as(t, f, recordedConfig, line); got != (result{out: want}) {
			t.Errorf("%s:\n got %+v\nwant %q", line, got, want)
		}
	}
	if got := as(t, f, recordedConfig, "drbdsetup status --json"); got.code != 0 || !strings.Contains(got.out, `"peer-node-id": 1`) {
		t.Errorf("drbdsetup status --json: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbd-overview"); got.code != 0 || !strings.HasPrefix(got.out, " 0:r0") {
		t.Errorf("drbd-overview: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdadm dump r0"); got.code != 0 || !strings.HasPrefix(got.out, "# resource r0 on alice: not ignored, not stacked\n# defined at ") {
		t.Errorf("drbdadm dump r0: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdadm dump-xml"); got.code != 0 || !strings.HasPrefix(got.out, "<config file=") {
		t.Errorf("drbdadm dump-xml: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdadm --help"); got.code != 0 || !strings.HasPrefix(got.out, "\nUSAGE: drbdadm COMMAND [OPTION...] {all|RESOURCE...}\n") || !strings.Contains(got.out, " hidden-commands ") {
		t.Errorf("drbdadm --help: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdsetup"); got.code != 20 || !strings.Contains(got.err, "USAGE: drbdsetup command") {
		t.Errorf("drbdsetup: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdmeta"); got.code != 20 || !strings.Contains(got.err, "USAGE: drbdmeta [--force] DEVICE FORMAT") {
		t.Errorf("drbdmeta: %+v", got)
	}
	if got := as(t, f, recordedConfig, "drbdadm --version"); got.code != 0 || !strings.Contains(got.out, "\nDRBD_KERNEL_VERSION=8.4.11\n") {
		t.Errorf("drbdadm --version: %+v", got)
	}
}

func TestCompatibleConfigErrors(t *testing.T) {
	bad := "global { usage-count no; }\nresource r0 {\n  frobnicate yes;\n}\n"
	if got := as(t, nil, bad, "drbdadm dump"); got.code != 10 || !strings.Contains(got.err, "drbd.conf:3: Parse error: 'protocol | on | disk | ") || got.out != "" {
		t.Errorf("unknown keyword: %+v", got)
	}
	other := strings.ReplaceAll(recordedConfig, "on alice", "on carol")
	if got := as(t, nil, other, "drbdadm -d up all"); got.code != 1 || !strings.HasPrefix(got.err, "WARN: no normal resources defined for this host (alice)!?\nMisspelled name") {
		t.Errorf("not for this host: %+v", got)
	}
	if got := as(t, nil, recordedConfig, "drbdadm primary r0"); got.code != 20 || !strings.Contains(got.err, "no drship daemon") {
		t.Errorf("without a daemon: %+v", got)
	}
	if got := as(t, nil, recordedConfig, "drbdadm -t /nonexistent up all"); got.code != 1 {
		t.Errorf("config-to-test with up: %+v", got)
	}
}
