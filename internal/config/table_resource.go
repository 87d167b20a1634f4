package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

func resourceOptions() []Option {
	quorum := "there is no quorum: promotion is decided by disk states, generation identifiers and fencing"
	twopc := "there is no cluster-wide state change to wait for: a promotion asks each connected peer"
	return []Option{
		text("options", "cpu-mask", "8.3 8.4 9", checkCPUMask).to(func(v *sections) any { return &v.Options.CPUMask }).
			inert("goroutines are not bound to processors; use systemd's CPUAffinity"),
		enum("options", "on-no-data-accessible", "io-error", "8.3 8.4 9", "io-error", "suspend-io").
			to(func(v *sections) any { return &v.Options.OnNoDataAccessible }).
			does("no disk here and no peer with data: errors for the clients, or I/O that waits for the peer that served"),
		yesNoOption("options", "auto-promote", "yes", "9").to(func(v *sections) any { return &v.Options.AutoPromote }).
			inert("opening an export does not promote: say drship primary"),
		span("options", "auto-promote-timeout", "20", 0, 600, tenth, "9").to(func(v *sections) any { return &v.Options.AutoPromoteTimeout }).
			inert("see auto-promote"),
		number("options", "peer-ack-window", "4096", 2048, 204800, 's', "sectors", "9").inert("the journal's marks take the place of peer acks"),
		span("options", "peer-ack-delay", "100", 1, 10000, time.Millisecond, "9").inert("the journal's marks take the place of peer acks"),
		span("options", "twopc-timeout", "300", 50, 600, tenth, "9").to(func(v *sections) any { return &v.Options.TwoPCTimeout }).inert(twopc),
		span("options", "twopc-retry-timeout", "1", 1, 50, tenth, "9").to(func(v *sections) any { return &v.Options.TwoPCRetryTimeout }).inert(twopc),
		number("options", "max-io-depth", "8000", 4, 1<<32-1, '1', "requests", "9").to(func(v *sections) any { return &v.Options.MaxIODepth }).
			inert("requests in flight are bounded per NBD connection"),
		text("options", "quorum", "9", checkQuorum).to(func(v *sections) any { return &v.Options.Quorum }).defaulting("off").inert(quorum),
		text("options", "quorum-minimum-redundancy", "9", checkQuorum).to(func(v *sections) any { return &v.Options.QuorumMinRedundancy }).defaulting("off").inert(quorum),
		enum("options", "on-no-quorum", "suspend-io", "9", "suspend-io", "io-error").to(func(v *sections) any { return &v.Options.OnNoQuorum }).inert(quorum),
		enum("options", "on-suspended-primary-outdated", "disconnect", "9", "disconnect", "force-secondary").
			to(func(v *sections) any { return &v.Options.OnSuspendedOutdated }).inert(quorum),
		yesNoOption("options", "drbd8-api-compatibility", "no", "9").inert("drship answers in 8.4's and in 9's forms"),
	}
}

// defaulting gives a text option its default.
func (o Option) defaulting(value string) Option { o.Default = value; return o }

func startupOptions() []Option {
	return []Option{
		span("startup", "wfc-timeout", "0", 0, 300000, time.Second, "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Startup.WFCTimeout }).
			does("how long become-primary-on waits for the peers; 0: for ever. wait-connect has a --timeout of its own"),
		span("startup", "degr-wfc-timeout", "0", 0, 300000, time.Second, "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Startup.DegrWFCTimeout }).
			does("the same, where this node was Primary and crashed"),
		span("startup", "outdated-wfc-timeout", "0", 0, 300000, time.Second, "8.3 8.4 9").to(func(v *sections) any { return &v.Startup.OutdatedWFCTimeout }).
			does("the same, where the peer is known to be outdated"),
		yesNoOption("startup", "wait-after-sb", "no", "8.3 8.4 9").to(func(v *sections) any { return &v.Startup.WaitAfterSB }).
			does("drbdadm's wait-connect and wait-con-int go on waiting for a peer that a split brain has cut off"),
		yesNoOption("startup", "stacked-timeouts", "no", "8.3 8.4 9").to(func(v *sections) any { return &v.Startup.StackedTimeouts }).
			does("drbdadm's wait-connect and wait-con-int give a stacked resource its own timeouts; no: twice connect-int"),
		Option{Section: "startup", Name: "become-primary-on", Kind: Words, In: "8.3 8.4"}.to(func(v *sections) any { return &v.Startup.BecomePrimaryOn }).
			does("the host that is promoted at its start; ignored by 9"),
	}
}

// handlerNames are the events that a shell line may be set for, DRBD's first.
func handlerNames() []Option {
	return []Option{
		{Name: "pri-on-incon-degr", In: "8.3 8.4 9", Note: "this node is Primary without good data of its own, and lost the peer that served it"},
		{Name: "pri-lost-after-sb", In: "8.3 8.4 9", Note: "the Primary lost a split-brain decision and could not demote"},
		{Name: "pri-lost", In: "8.3 8.4 9", Note: "the Primary should become the target of a resync and could not demote"},
		{Name: "fence-peer", In: "8.3 8.4 9", Note: "the link is lost and fencing is on; the exit code is the answer"},
		{Name: "unfence-peer", In: "8.4 9", Note: "the peer may be used again"},
		{Name: "local-io-error", In: "8.3 8.4 9", Note: "on-io-error call-local-io-error"},
		{Name: "initial-split-brain", In: "8.3 8.4 9", Note: "a split brain was seen, before the policies"},
		{Name: "split-brain", In: "8.3 8.4 9", Note: "a split brain was seen and not solved"},
		{Name: "before-resync-target", In: "8.3 8.4 9", Note: "a resync starts, on its target"},
		{Name: "after-resync-target", In: "8.3 8.4 9", Note: "a resync has ended, on its target"},
		{Name: "before-resync-source", In: "8.4 9", Note: "a resync starts, on its source"},
		{Name: "out-of-sync", In: "8.3 8.4 9", Note: "a verify found differences"},
		{Name: "quorum-lost", In: "9", Note: "never runs: there is no quorum"},
		{Name: "disconnected", In: "9", Note: "the connection to a peer has ended, for whatever reason; not where a new handshake follows at once"},
		{Name: "lag-exceeded", In: "drship", Note: "the lag passed wan { lag-limit … }"},
		{Name: "journal-full", In: "drship", Note: "the journal reached its limit"},
		{Name: "verify-done", In: "drship", Note: "a verify has ended"},
		{Name: "peer-silent", In: "drship", Note: "nothing heard of the peer for wan { peer-silent … }"},
	}
}

func handlerOptions() []Option {
	names := handlerNames()
	for i := range names {
		names[i].Section, names[i].Kind, names[i].Class = "handlers", Text, Honoured
		if strings.HasPrefix(names[i].Note, "never runs") {
			names[i].Class = NoEffect
		}
	}
	return names
}

func globalOptions() []Option {
	return []Option{
		enum("global", "usage-count", "ask", "8.3 8.4 9", "yes", "no", "ask").to(func(v *sections) any { return &v.Global.UsageCount }).
			does("drship never calls home, whatever this says"),
		number("global", "minor-count", "32", 1, 255, '1', "", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Global.MinorCount }).
			inert("there is no kernel module to size"),
		span("global", "dialog-refresh", "1", 0, 600, time.Second, "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Global.DialogRefresh }).
			does("redraw interval of wait-con-int's dialogue"),
		yesNoOption("global", "disable-ip-verification", "no", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Global.DisableIPVerify }).
			does("drship never calls ip or ifconfig"),
		yesNoOption("global", "udev-always-use-vnr", "no", "8.4 9").to(func(v *sections) any { return &v.Global.UdevAlwaysUseVNR }).
			inert("there are no udev links: volumes are NBD exports"),
		span("global", "cmd-timeout-short", "5", 0, 900, time.Second, "8.4 9").to(func(v *sections) any { return &v.Global.CmdTimeoutShort }).
			inert("verbs have their own limits, see drship --help"),
		span("global", "cmd-timeout-medium", "121", 0, 900, time.Second, "8.4 9").to(func(v *sections) any { return &v.Global.CmdTimeoutMedium }).
			inert("verbs have their own limits, see drship --help"),
		span("global", "cmd-timeout-long", "600", 0, 900, time.Second, "8.4 9").to(func(v *sections) any { return &v.Global.CmdTimeoutLong }).
			inert("verbs have their own limits, see drship --help"),
		text("global", "nbd-listen", "drship", checkListen).to(func(v *sections) any { return &v.Global.NBDListen }).
			does("HOST:PORT on which exports are offered beside the unix socket; beyond loopback only with TLS or allow-plaintext-nbd"),
		yesNoOption("global", "allow-plaintext-nbd", "no", "drship").to(func(v *sections) any { return &v.Global.AllowPlaintextNBD }).
			does("let nbd-listen serve other machines without TLS"),
		text("global", "nbd-tls-cert", "drship", checkPath).to(func(v *sections) any { return &v.Global.NBDTLSCert }).does("certificate of the NBD server, PEM"),
		text("global", "nbd-tls-key", "drship", checkPath).to(func(v *sections) any { return &v.Global.NBDTLSKey }).does("key of the NBD server, PEM"),
		text("global", "nbd-tls-ca", "drship", checkPath).to(func(v *sections) any { return &v.Global.NBDTLSCA }).
			does("NBD clients must show a certificate of this authority, PEM"),
		text("global", "metrics-listen", "drship", checkMetricsListen).to(func(v *sections) any { return &v.Global.MetricsListen }).
			later("HOST:PORT or unix:PATH of the metrics; until then the same figures are in status --json and events2 --statistics"),
	}
}

func checkCPUMask(s string) error {
	if s == "" || strings.Trim(s, "0123456789abcdefABCDEF,x") != "" {
		return fmt.Errorf("'%s' is no hexadecimal mask", s)
	}
	return nil
}

func checkQuorum(s string) error {
	switch s {
	case "off", "majority", "all":
		return nil
	}
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 32 {
		return fmt.Errorf("'%s' should be off, majority, all or 1..32", s)
	}
	return nil
}

func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("'%s' is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port '%s' is out of range [1..65535]", port)
	}
	return nil
}

func checkMetricsListen(s string) error {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return checkPath(path)
	}
	return checkListen(s)
}

func checkPath(s string) error {
	if s == "" {
		return errors.New("the path is empty")
	}
	return nil
}
