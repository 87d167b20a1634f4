package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const tenth = 100 * time.Millisecond

// sbNote says what governs the after-split-brain policies.
const sbNote = "decides who gives way when a split brain is found"

func netOptions() []Option {
	kernelBuffer := "a TCP buffer of the kernel: the link is QUIC, and what waits for the peer waits in the journal on disk"
	return []Option{
		enum("net", "protocol", "C", "0.7 8.3 8.4 9", "A", "B", "C").to(func(v *sections) any { return &v.Net.Protocol }).
			does("a write completes when A: disk and journal here have it; B: the peer has it in memory, too; C: the peer has it staged on its disk, too"),
		span("net", "timeout", "60", 1, 600, tenth, "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.Timeout }).
			does("a peer that does not answer a batch within this is unreachable"),
		number("net", "ko-count", "7", 0, 200, '1', "", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.KoCount }).
			does("a peer that answers keep-alives, and for ko-count × timeout nothing of what it was sent, is dropped, so that writes which wait for it go on; it is connected again at once; 0: never"),
		span("net", "connect-int", "10", 1, 120, time.Second, "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.ConnectInt }).
			does("upper bound of the back-off between two attempts to connect, with jitter"),
		span("net", "ping-int", "10", 1, 120, time.Second, "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.PingInt }).
			does("keep-alive interval of an idle link"),
		span("net", "ping-timeout", "5", 1, 300, tenth, "8.3 8.4 9").to(func(v *sections) any { return &v.Net.PingTimeout }).
			does("a peer that leaves a keep-alive unanswered for this long is gone"),
		span("net", "socket-check-timeout", "0", 0, 300, tenth, "8.4 9").to(func(v *sections) any { return &v.Net.SocketCheckTimeout }).
			inert("QUIC opens one connection; there is no second socket to check"),
		number("net", "max-epoch-size", "2048", 1, 20000, '1', "requests", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.MaxEpochSize }).
			inert("the journal keeps every write in order; there are no barriers between epochs"),
		number("net", "max-buffers", "2048", 32, 131072, '1', "4-KiB pages", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.MaxBuffers }).
			inert("pages of the kernel: the receiver is bounded by journal max-staged and by the window of the link"),
		number("net", "unplug-watermark", "128", 1, 131072, '1', "requests", "0.7 8.3 8.4").
			inert("kernels no longer unplug request queues"),
		number("net", "sndbuf-size", "0", 0, 128<<20, '1', "bytes", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Net.SndbufSize }).inert(kernelBuffer),
		number("net", "rcvbuf-size", "0", 0, 128<<20, '1', "bytes", "8.3 8.4 9").to(func(v *sections) any { return &v.Net.RcvbufSize }).inert(kernelBuffer),
		yesNoOption("net", "tcp-cork", "yes", "8.4 9").inert("the link is QUIC: writes are gathered into batches instead"),
		yesNoOption("net", "allow-two-primaries", "no", "8.3 8.4 9").to(func(v *sections) any { return &v.Net.AllowTwoPrimaries }).
			refused("a resource has one write order and so one Primary; a cluster file system needs DRBD itself"),
		enum("net", "after-sb-0pri", "disconnect", "8.3 8.4 9", "disconnect", "discard-younger-primary", "discard-older-primary",
			"discard-zero-changes", "discard-least-changes", "discard-local", "discard-remote").
			to(func(v *sections) any { return &v.Net.AfterSB0 }).does(sbNote + " and no side is Primary"),
		enum("net", "after-sb-1pri", "disconnect", "8.3 8.4 9", "disconnect", "consensus", "violently-as0p", "discard-secondary",
			"call-pri-lost-after-sb").to(func(v *sections) any { return &v.Net.AfterSB1 }).does(sbNote + " and one side is Primary"),
		enum("net", "after-sb-2pri", "disconnect", "8.3 8.4 9", "disconnect", "violently-as0p", "call-pri-lost-after-sb").
			to(func(v *sections) any { return &v.Net.AfterSB2 }).does(sbNote + " and both sides are Primary"),
		yesNoOption("net", "always-asbp", "no", "8.3 8.4 9").to(func(v *sections) any { return &v.Net.AlwaysASBP }).
			does("after-sb policies apply also where only the histories match"),
		enum("net", "rr-conflict", "disconnect", "8.3 8.4 9", "disconnect", "violently", "call-pri-lost", "retry-connect", "auto-discard").
			to(func(v *sections) any { return &v.Net.RRConflict }).does("what happens when a handshake would make a Primary the target of a resync; violently takes the volume from its clients and makes it a Secondary, where DRBD changes the data under them"),
		yesNoOption("net", "use-rle", "yes", "8.3 8.4 9").to(func(v *sections) any { return &v.Net.UseRLE }).
			inert("the bitmap is always exchanged compressed"),
		enum("net", "on-congestion", "block", "8.3 8.4 9", "block", "pull-ahead", "disconnect").to(func(v *sections) any { return &v.Net.OnCongestion }).
			inert("a full link never holds up a writer: the journal takes what the link cannot; what happens when the journal is full is journal { on-full … }"),
		number("net", "congestion-fill", "0", 0, 10<<21, 's', "sectors", "8.3 8.4 9").to(func(v *sections) any { return &v.Net.CongestionFill }).
			inert("see on-congestion; the limit is journal { max-size … }"),
		number("net", "congestion-extents", "1237", 67, 65534, '1', "extents", "8.3 8.4 9").to(func(v *sections) any { return &v.Net.CongestionExtents }).
			inert("see on-congestion"),
		enum("net", "fencing", "dont-care", "8.3 8.4 9", "dont-care", "resource-only", "resource-and-stonith").
			to(func(v *sections) any { return &v.Net.Fencing }).does("a Primary that loses its peer calls fence-peer; resource-and-stonith freezes I/O until it has answered"),
		enum("net", "transport", "tcp", "9", "tcp", "rdma", "lb-tcp").to(func(v *sections) any { return &v.Net.Transport }).
			refused("the link is QUIC over UDP; leave transport out"),
		yesNoOption("net", "load-balance-paths", "no", "9").inert("one path of a connection is used at a time"),
		yesNoOption("net", "allow-remote-read", "yes", "9").to(func(v *sections) any { return &v.Net.AllowRemoteRead }).
			does("no: a Primary whose disk is gone, or not good yet, is not served by its peer"),
		number("net", "rdma-ctrl-rcvbuf-size", "0", 0, 10<<20, '1', "bytes", "9").inert("there is no RDMA transport"),
		number("net", "rdma-ctrl-sndbuf-size", "0", 0, 10<<20, '1', "bytes", "9").inert("there is no RDMA transport"),
		text("net", "_name", "9", nil).inert("a peer is shown under its node name"),
	}
}

func netSecurityOptions() []Option {
	tls := "the link always speaks TLS 1.3; trust comes from certificate-fingerprint or shared-secret"
	return []Option{
		text("net", "cram-hmac-alg", "8.3 8.4 9", checkDigest).to(func(v *sections) any { return &v.Net.CramHMACAlg }).
			does("each side proves that it knows shared-secret, bound to the TLS session (md5, sha1, sha256, sha512)"),
		text("net", "shared-secret", "8.3 8.4 9", checkSecret).to(func(v *sections) any { return &v.Net.SharedSecret }).
			does("the secret of cram-hmac-alg, at most 64 characters"),
		yesNoOption("net", "allow-unauthenticated", "no", "drship").to(func(v *sections) any { return &v.Net.AllowUnauthenticated }).
			does("a link without certificate-fingerprint and without shared-secret is refused unless this says yes"),
		text("net", "data-integrity-alg", "8.3 8.4 9", checkBlockDigest).to(func(v *sections) any { return &v.Net.DataIntegrityAlg }).
			does("digest over every record; crc32c where unset, so there is always one (crc32c, md5, sha1, sha256, sha512, xxh3, blake3)"),
		text("net", "csums-alg", "8.3 8.4 9", checkBlockDigest).to(func(v *sections) any { return &v.Net.CsumsAlg }).
			does("a resync sends only blocks whose digests differ"),
		yesNoOption("net", "csums-after-crash-only", "no", "8.4 9").to(func(v *sections) any { return &v.Net.CsumsAfterCrashOnly }).
			does("csums-alg only for the resync after a crash of the Primary"),
		text("net", "verify-alg", "8.3 8.4 9", checkBlockDigest).to(func(v *sections) any { return &v.Net.VerifyAlg }).
			does("digest of online verify"),
		text("net", "verify-schedule", "drship", checkCron).to(func(v *sections) any { return &v.Net.VerifySchedule }).
			does("when online verify runs by itself, in cron's five fields: \"0 3 * * 0\""),
		enum("net", "verify-repair", "off", "drship", "off", "on", "ask").to(func(v *sections) any { return &v.Net.VerifyRepair }).
			does("whether differences found by verify are repaired, from the UpToDate Primary: off leaves them out of sync, on repairs when the run has ended, ask waits for drship verify --repair"),
		number("net", "verify-rate", "0", 0, 8<<20, 'k', "KiB/s", "drship").to(func(v *sections) any { return &v.Net.VerifyRate }).
			does("rate of online verify; 0: paced like a resync"),
		yesNoOption("net", "tls", "no", "9").inert(tls),
		text("net", "tls-keyring", "9", nil).inert(tls),
		text("net", "tls-privkey", "9", nil).inert(tls),
		text("net", "tls-certificate", "9", nil).inert(tls),
	}
}

// checkDigest takes the names of digests that may stand under an HMAC.
func checkDigest(s string) error {
	return oneOf(s, "digest", "md5", "sha1", "sha256", "sha512")
}

// checkBlockDigest takes the names of digests over data.
func checkBlockDigest(s string) error {
	return oneOf(s, "digest", "crc32c", "md5", "sha1", "sha256", "sha512", "xxh3", "blake3")
}

func oneOf(s, what string, known ...string) error {
	for _, k := range known {
		if s == k {
			return nil
		}
	}
	return &valueError{text: fmt.Sprintf("unknown %s '%s', should be one of %s", what, s, strings.Join(known, ",")), nearest: nearest(s, known)}
}

func checkSecret(s string) error {
	switch {
	case s == "":
		return errors.New("the secret is empty")
	case len(s) > 64:
		return fmt.Errorf("the secret has %d characters, 64 are allowed", len(s))
	}
	return nil
}

// checkCron takes what ParseCron reads.
func checkCron(s string) error {
	_, err := ParseCron(s)
	return err
}
