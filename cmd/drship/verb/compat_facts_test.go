package verb

import (
	"io"
	"strings"
	"testing"
	"time"

	"drship/internal/config"
	"drship/internal/face"
	"drship/internal/state"
)

// What a real drbdadm 9.22, in its 8.4 personality, printed for the recorded configuration on a Primary.
const recordedShStatus = `_drbd_version=9.22.0
_drbd_api=1
_config_file=FILE


_conf_res_name=r0
_conf_file_line=FILE:3

_stacked_on=
_stacked_on_device=
_stacked_on_minor=
_conf_volume=0
_minor=0
_res_name=r0
_volume=0
_known=Configured

_cstate=Connected
_role=Primary
_peer=Secondary
_disk=UpToDate
_pdsk=UpToDate

_flags_susp=
_flags_aftr_isp=
_flags_peer_isp=
_flags_user_isp=

_resynced_percent=

_sh_status_process


`

func TestShStatusAsRecorded(t *testing.T) {
	f := &fakeNode{status: []face.Resource{healthy("r0")}}
	f.serve(t)
	got := as(t, f, recordedConfig, "drbdadm sh-status")
	line := strings.SplitN(got.out, "\n", 4)[2]
	file := strings.TrimPrefix(line, "_config_file=")
	if want := strings.ReplaceAll(recordedShStatus, "FILE", file); got.out != want || got.code != 0 || !strings.HasSuffix(file, "drbd.conf") {
		t.Errorf("%s\nwant\n%s", got.out, want)
	}
	f.status[0].Peers[0].Volumes[0].Conn = state.SyncSource
	f.status[0].Peers[0].Volumes[0].Sync = &face.Progress{Total: 1000, Left: 588}
	f.status[0].Peers[0].Volumes[0].Flags.User = true
	got = as(t, f, recordedConfig, "drbdsetup sh-status 0")
	for _, line := range []string{"_cstate=SyncSource", "_resynced_percent=41.2", "_flags_user_isp=1"} {
		if !strings.Contains(got.out, line+"\n") {
			t.Errorf("a resync: no %s in\n%s", line, got.out)
		}
	}
	f.status = nil
	if got := as(t, f, recordedConfig, "drbdadm sh-status"); !strings.Contains(got.out, "_known=Unconfigured\n\n_cstate=Unconfigured\n_role=\n") {
		t.Errorf("down: %s", got.out)
	}
	if got := as(t, nil, recordedConfig, "drbdadm sh-status"); got.code != 0 || !strings.Contains(got.out, "_known=Unconfigured\n") {
		t.Errorf("without a daemon: %+v", got)
	}
}

const stackedConfig = recordedConfig + `resource top {
  net { protocol A; }
  stacked-on-top-of r0 { device /dev/drbd10; address 10.77.0.9:7788; }
  on carol { device /dev/drbd10; disk /dev/backing; address 10.77.1.1:7788; meta-disk internal; }
}
`

// Facts and refusals, each as drbdadm-84 printed it.
func TestFactsAsRecorded(t *testing.T) {
	for _, c := range []struct {
		config, line string
		want         result
	}{
		{recordedConfig, "drbdadm sh-udev r0/0", result{out: "RESOURCE=r0\nDEVICE=drbd0\nDISK=backing\n"}},
		{recordedConfig, "drbdadm sh-udev all", result{err: "volume not specified\n", code: 1}},
		{recordedConfig, "drbdadm sh-b-pri r0", result{}},
		{recordedConfig, "drbdadm sh-lr-of r0", result{err: "sh-lower-resource only available in stacked mode\n", code: 1}},
		{recordedConfig, "drbdadm sh-mod-parms r0", result{out: "minor_count=32\n", err: "This command will ignore resource names!\n"}},
		{recordedConfig, "drbdadm -P bob sh-ip r0", result{out: "10.77.0.1\n"}},
		{recordedConfig, "drbdadm -n foo sh-ip r0", result{out: "10.77.0.1\n"}},
		{recordedConfig, "drbdadm -S role r0", result{err: "'r0' is a normal resource, and not available in stacked mode.\n", code: 1}},
		{recordedConfig, "drbdadm -S up all", result{err: "WARN: nothing stacked for this host (alice), nothing to do in stacked mode!\n", code: 1}},
		{recordedConfig, "drbdadm role r0/3", result{err: "'r0/3' not defined in your config (for this host).\n", code: 1}},
		{recordedConfig, "drbdadm -x up r0", result{err: "drbdadm: invalid option -- 'x'\ntry 'drbdadm help'\n", code: 1}},
		{recordedConfig, "drbdadm -c", result{err: "drbdadm: option requires an argument -- 'c'\ntry 'drbdadm help'\n", code: 1}},
		{recordedConfig, "drbdadm --config-file", result{err: "drbdadm: option '--config-file' requires an argument\ntry 'drbdadm help'\n", code: 1}},
		{recordedConfig, "drbdadm -c /nonexistent.conf dump", result{err: "Can not open '/nonexistent.conf'.\n", code: 20}},
		{"global { usage-count no; }\n", "drbdadm -d up all", result{err: "no resources defined!\n", code: 1}},
		{recordedConfig, "drbdadm -d disk-options r0", result{out: "drbdsetup-84 disk-options 0\n"}},
		{recordedConfig, "drbdadm -d disk-options --resync-rate=5M r0", result{out: "drbdsetup-84 disk-options 0 --resync-rate=5M\n"}},
		{recordedConfig, "drbdadm -d net-options r0", result{out: "drbdsetup-84 net-options ipv4:10.77.0.1:7788 ipv4:10.77.0.2:7788\n"}},
		{recordedConfig, "drbdadm -d resource-options r0", result{out: "drbdsetup-84 resource-options r0\n"}},
		{recordedConfig, "drbdadm -d resize r0", result{out: "drbdsetup-84 resize 0\ndrbdsetup-84 check-resize 0\n"}},
		{recordedConfig, "drbdadm -d new-resource r0", result{out: "drbdsetup-84 new-resource r0\n"}},
		{recordedConfig, "drbdadm -d new-minor r0", result{out: "drbdsetup-84 new-minor r0 0 0\n"}},
		{recordedConfig, "drbdadm -d wait-connect r0", result{out: "drbdsetup-84 wait-connect 0\n"}},
		{recordedConfig, "drbdadm -d primary --force r0/0", result{out: "drbdsetup-84 primary 0 --force\n"}},
		{recordedConfig, "drbdadm -d outdate r0", result{out: "drbdsetup-84 outdate 0\ndrbdmeta 0 v08 /dev/backing internal outdate\n"}},
		{recordedConfig, "drbdadm -d show-gi r0", result{out: "drbdsetup-84 show-gi 0\ndrbdmeta 0 v08 /dev/backing internal show-gi\n"}},
		{recordedConfig, "drbdadm -d check-resize r0", result{out: "drbdsetup-84 resize 0\ndrbdsetup-84 check-resize 0\n"}},
		{recordedConfig, "drbdadm -d set-gi r0", result{out: "drbdmeta 0 v08 /dev/backing internal set-gi\n"}},
		{stackedConfig, "drbdadm sh-resources", result{out: "r0\n"}},
		{stackedConfig, "drbdadm -S sh-resources", result{out: "top\n"}},
		{stackedConfig, "drbdadm -S sh-lr-of top", result{out: "r0\n"}},
		{stackedConfig, "drbdadm -S -d down all", result{out: "drbdsetup-84 down top\n"}},
		{stackedConfig, "drbdadm -d down all", result{out: "drbdsetup-84 down r0\n"}},
	} {
		if got := as(t, nil, c.config, c.line); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.line, got, c.want)
		}
	}
}

// Help has the commands in DRBD's order and columns.
func TestHelpAsRecorded(t *testing.T) {
	help := as(t, nil, recordedConfig, "drbdadm --help")
	head := "\nCOMMANDS:\n attach                             status                             \n disk-options                       detach                             \n" +
		" connect                            net-options                        \n disconnect                         up                                 \n"
	if help.code != 0 || !strings.Contains(help.out, head) || !strings.Contains(help.out, "\nVersion: 9.22.0 (api:1)\nGIT-hash: ") {
		t.Errorf("drbdadm --help: %+v", help)
	}
	for line, want := range map[string]string{
		"drbdadm":                "\n\nNo command specified\n",
		"drbdadm up":             "\n\nNo resource names specified\n",
		"drbdadm disk-options":   "\nOPTIONS FOR disk-options:\n",
		"drbdadm sh-dev":         "USAGE: drbdadm sh-dev [OPTION...] {all|RESOURCE...}\n",
		"drbdadm role --verbose": "USAGE: drbdadm role [OPTION...] {all|RESOURCE...}\n",
	} {
		if got := as(t, nil, recordedConfig, line); got.code != 1 || !strings.Contains(got.out, want) || got.err != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
	for line, want := range map[string]string{
		"drbdadm help primary":       "\nOPTIONS FOR primary:\n  --force[=...]\n",
		"drbdadm help connect":       "\nOPTIONS FOR connect:\n  --tentative[=...]\n  --discard-my-data[=...]\n  --protocol=...\n",
		"drbdadm hidden-commands":    "nifty shell scripts around drbdadm:\n\n sh-nop                             sh-resources                       \n",
		"drbdsetup help events2":     "USAGE:\n drbdsetup events2 { {resource} | all }\n    [--timestamps] [--statistics] [--now] [--poll] [--full] [--color=...]\n    [--diff=...]\n",
		"drbdsetup events2 --help":   "USAGE:\n drbdsetup events2 ",
		"drbdsetup help net-options": " [--protocol={A|B|C}] [--timeout=(1 ... 600)]",
	} {
		if got := as(t, nil, recordedConfig, line); got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

// Every command of the reference is understood.
func TestEveryCommandIsKnown(t *testing.T) {
	for _, name := range strings.Fields(`up down adjust adjust-with-progress attach detach connect disconnect primary secondary invalidate invalidate-remote outdate resize
		check-resize verify pause-sync resume-sync role cstate dstate state status peer-role wait-connect wait-sync wait-con-int create-md wipe-md dump-md dump-superblock
		apply-al repair-md show-gi get-gi set-gi new-current-uuid forget-peer dump dump-xml disk-options net-options resource-options peer-device-options new-resource new-minor
		del-minor new-peer del-peer new-path del-path syncer suspend-io resume-io proxy-up proxy-down sh-nop sh-resources sh-resource sh-mod-parms sh-dev sh-udev
		sh-minor sh-ll-dev sh-md-dev sh-md-idx sh-ip sh-lr-of sh-list-config-file sh-list-adjustable sh-b-pri sh-status before-resync-target after-resync-target
		before-resync-source pri-on-incon-degr pri-lost-after-sb pri-lost fence-peer unfence-peer local-io-error initial-split-brain split-brain out-of-sync quorum-lost disconnected`) {
		c := findCommand(name)
		if c == nil {
			t.Errorf("drbdadm %s is not known", name)
			continue
		}
		if _, none := meaningless[name]; none || c.fact != nil || name == "wait-con-int" {
			continue
		}
		if !hasVerb(c.verb) {
			t.Errorf("drbdadm %s: there is no verb %s", name, c.verb)
		}
	}
	for _, c := range setupTable() {
		if c.verb == "" {
			c.verb = c.name
		}
		if c.why == "" && c.verb != "sh-status" && !hasVerb(c.verb) {
			t.Errorf("drbdsetup %s: there is no verb %s", c.name, c.verb)
		}
	}
}

func hasVerb(name string) bool {
	a := &app{deps: Deps{Getenv: func(string) string { return "" }}}
	for _, c := range a.commands() {
		if c.Name() == name {
			return true
		}
	}
	return false
}

// The dialogue ends with the wait, or with a yes at the terminal.
func TestWaitConInt(t *testing.T) {
	c, err := config.Parse("t.conf", []byte(recordedConfig), config.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	d := waitDialogue{out: &b, quiet: 10 * time.Millisecond, startup: c.Resources[0], resource: "r0"}
	done := make(chan error, 1)
	done <- nil
	if err := d.wait(t.Context(), done); err != nil || b.String() != "" {
		t.Errorf("connected: %v, %q", err, b.String())
	}
	in, out := io.Pipe()
	d.answers = lines(in)
	go func() {
		for _, line := range []string{"no\n", "yes\n"} {
			io.WriteString(out, line) //nolint:errcheck // the test fails where it is not read
		}
		out.Close()
	}()
	if err := d.wait(t.Context(), make(chan error)); err != nil {
		t.Error(err)
	}
	text := b.String()
	for _, want := range []string{"..........\n***", " DRBD's startup script waits for the peer node(s) to appear.\n", "(These values are for resource 'r0'; 0 sec -> wait forever)",
		" To abort waiting enter 'yes' [ -- ]: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	f := &fakeNode{status: []face.Resource{healthy("r0")}}
	f.serve(t)
	if got := as(t, f, recordedConfig, "drbdadm wait-con-int"); got != (result{}) {
		t.Errorf("all connected: %+v", got)
	}
}

func TestEvents2Polls(t *testing.T) {
	f := &fakeNode{status: []face.Resource{healthy("r0")}}
	f.serve(t)
	d := Deps{Getenv: func(k string) string { return map[string]string{"DRSHIP_RUN_DIR": f.dir}[k] }}
	d.Stdin = strings.NewReader("n\nn\nq n")
	got := execute(t.Context(), d, "drship", "events2", "--now", "--poll", "r0")
	if n := strings.Count(got.out, "exists -\n"); got.code != 0 || n != 3 {
		t.Errorf("--now --poll printed everything %d times: %+v", n, got)
	}
	d.Stdin = strings.NewReader("nq")
	if got = execute(t.Context(), d, "drship", "events2", "--poll", "r0"); got.code != 0 {
		t.Errorf("--poll: %+v", got)
	}
}
