package config

import (
	"fmt"
	"strings"
	"time"
)

const maxRateKiB = 8 << 20 // 8 GiB/s

func diskOptions() []Option {
	flushes := "drship flushes disk and journal whenever a client asks for a flush, and cannot be told not to"
	return []Option{
		enum("disk", "on-io-error", "detach", "0.7 8.3 8.4 9", "pass_on", "call-local-io-error", "detach").
			to(func(v *sections) any { return &v.Disk.OnIOError }).
			does("an error of the backing disk. detach goes Diskless until it is attached again: a Primary has its peer carry out its clients' requests, who notice nothing, where a connected peer is UpToDate; else the client hears of the error. One volume of several goes alone. call-local-io-error runs the handler beside that. pass_on keeps the disk: a read is answered by a peer that is UpToDate, else the client hears of the error; the blocks are marked; on a Secondary it ends the connection and tries again"),
		number("disk", "size", "0", 0, 1<<41, 's', "sectors", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Disk.Size }).
			does("usable size; 0: that of the backing disk"),
		yesNoOption("disk", "disk-barrier", "no", "8.4 9").inert(flushes),
		yesNoOption("disk", "disk-flushes", "yes", "8.4 9").inert(flushes),
		yesNoOption("disk", "disk-drain", "yes", "8.4 9").inert(flushes),
		yesNoOption("disk", "md-flushes", "yes", "8.4 9").inert("metadata lives in the state directory's store, which always syncs"),
		span("disk", "disk-timeout", "0", 0, 6000, tenth, "8.3 8.4 9").to(func(v *sections) any { return &v.Disk.DiskTimeout }).
			inert("a request that the backing disk has taken cannot be taken back from user space"),
		number("disk", "al-extents", "1237", 67, 65534, '1', "extents of 4 MiB", "0.7 8.3 8.4 9").to(func(v *sections) any { return &v.Disk.ALExtents }).
			does("size of the activity log: what is compared after a crash of the Primary"),
		yesNoOption("disk", "al-updates", "yes", "8.4 9").inert("the activity log is always kept: a crash costs a comparison of the hot extents, never a full resync"),
		enum("disk", "read-balancing", "prefer-local", "8.4 9", "prefer-local", "prefer-remote", "round-robin", "least-pending", "when-congested-remote",
			"32K-striping", "64K-striping", "128K-striping", "256K-striping", "512K-striping", "1M-striping").
			inert("reads are served from the local disk while it is good"),
		yesNoOption("disk", "discard-zeroes-if-aligned", "yes", "8.4 9").inert("a discarded range reads as zeroes on every side"),
		yesNoOption("disk", "disable-write-same", "no", "8.4 9").inert("NBD has WRITE_ZEROES in its place"),
		number("disk", "rs-discard-granularity", "0", 0, 1<<20, '1', "bytes", "8.4 9").to(func(v *sections) any { return &v.Disk.RsDiscardGranularity }).
			does("zeroes of a resync are trimmed on the target in multiples of this; 0: what is allocated there stays allocated"),
		number("disk", "discard-granularity", "0", 0, 128<<20, '1', "bytes", "9").to(func(v *sections) any { return &v.Disk.DiscardGranularity }).
			inert("the NBD export takes trims of any size"),
		number("disk", "block-size", "512", 512, 4096, '1', "bytes", "9").to(func(v *sections) any { return &v.Disk.BlockSize }).
			inert("the NBD export takes requests of any alignment and names 4096 as the preferred one"),
		number("disk", "max-bio-size", "1M", 512, 1<<20, '1', "bytes", "9").inert("there are no bios in user space"),
		number("disk", "max-bio-bvecs", "0", 0, 128, '1', "", "8.3 8.4").inert("there are no bios in user space"),
		yesNoOption("disk", "diskless", "no", "9").inert("write disk none in the volume"),
		yesNoOption("disk", "bitmap", "yes", "9").inert("every peer has its bitmap; it costs next to nothing while it is clean"),
		yesNoOption("disk", "resync-without-replication", "yes", "9").inert("a resync target receives live writes from the start"),
		yesNoOption("disk", "peer-tiebreaker", "yes", "9").inert("there is no quorum"),
	}
}

// resyncOptions stand in disk sections and steer the resync with a peer.
func resyncOptions() []Option {
	return []Option{
		number("disk", "resync-rate", "", 1, maxRateKiB, 'k', "KiB/s", "8.4 9").to(func(v *sections) any { return &v.Disk.ResyncRate }).
			does("fixed rate of a resync, in bytes and not bits a second; unset: 30 % of the slower of disk and network, as measured"),
		text("disk", "resync-after", "8.4 9", nil).to(func(v *sections) any { return &v.Disk.ResyncAfter }).
			does("wait for the resync of another resource of this node, RES or RES/VOL; a chain that leads back to its start is ignored"),
		span("disk", "c-plan-ahead", "20", 0, 300, tenth, "8.3 8.4 9").to(func(v *sections) any { return &v.Disk.CPlanAhead }).
			does("horizon of the controller that keeps what a resync has under way at c-fill-target or c-delay-target; 0: no controller, and c-max-rate has no effect"),
		number("disk", "c-fill-target", "100", 0, 1<<20, 's', "sectors", "8.3 8.4 9").to(func(v *sections) any { return &v.Disk.CFillTarget }).
			does("what a resync has under way, where it is written; else c-delay-target counts. DRBD's default of 50 KiB would hold a long line down"),
		span("disk", "c-delay-target", "10", 1, 100, tenth, "8.3 8.4 9").to(func(v *sections) any { return &v.Disk.CDelayTarget }).
			does("how long a piece of a resync may be under way before the resync is slowed down, where c-fill-target is not written"),
		number("disk", "c-max-rate", "102400", 0, 4<<20, 'k', "KiB/s", "8.3 8.4 9").to(func(v *sections) any { return &v.Disk.CMaxRate }).
			does("ceiling of a resync whose rate is measured; 0: none; no effect where c-plan-ahead is 0"),
		number("disk", "c-min-rate", "250", 0, 4<<20, 'k', "KiB/s", "8.3 8.4 9").to(func(v *sections) any { return &v.Disk.CMinRate }).
			does("what a resync goes down to while writes of applications wait for the line; 0: it does not yield"),
	}
}

func journalOptions() []Option {
	const tib = int64(1) << 40
	return []Option{
		number("journal", "max-size", "4G", 1<<20, 64*tib, '1', "bytes", "drship").to(func(v *sections) any { return &v.Journal.MaxSize }).
			does("records kept for peers that have not staged them"),
		enum("journal", "on-full", "pull-ahead", "drship", "pull-ahead", "block", "disconnect").to(func(v *sections) any { return &v.Journal.OnFull }).
			does("pull-ahead: go on, mark blocks, resync later; block: hold writers up; disconnect: drop the peer, mark blocks"),
		number("journal", "max-history", "4G", 0, 64*tib, '1', "bytes", "drship").to(func(v *sections) any { return &v.Journal.MaxHistory }).
			does("pre-images kept on the receiver while a resync runs: the way back to its last consistent point"),
		number("journal", "max-staged", "256M", 1<<20, tib, '1', "bytes", "drship").to(func(v *sections) any { return &v.Journal.MaxStaged }).
			does("what the receiver takes before it has applied what came earlier"),
	}
}

func wanOptions() []Option {
	return []Option{
		enum("wan", "compression", "auto", "drship", "zstd", "s2", "off", "auto").to(func(v *sections) any { return &v.WAN.Compression }).
			does("how batches are compressed; raw where it does not pay; auto: by what is scarcer, line or processor; delta and dedupe work with auto and zstd"),
		number("wan", "level", "0", 0, 22, '1', "", "drship").to(func(v *sections) any { return &v.WAN.Level }).
			does("level of zstd; from 7 on, batches that travel as differences are packed densely; 0: chosen at run time"),
		yesNoOption("wan", "fold", "yes", "drship").to(func(v *sections) any { return &v.WAN.Fold }).
			does("inside a batch the last write to a byte wins"),
		yesNoOption("wan", "delta", "yes", "drship").to(func(v *sections) any { return &v.WAN.Delta }).
			does("a block that overwrites one sent lately travels as the difference"),
		yesNoOption("wan", "dedupe", "yes", "drship").to(func(v *sections) any { return &v.WAN.Dedupe }).
			does("a block that the receiver has already travels as the place where it has it; a digest proves it"),
		number("wan", "cache-size", "64M", 0, 4<<30, '1', "bytes", "drship").to(func(v *sections) any { return &v.WAN.CacheSize }).
			does("memory for recent blocks and for what is known of the receiver's disk, at each end; the smaller one counts; below 11M: none"),
		number("wan", "link-rate", "0", 0, maxRateKiB, 'k', "KiB/s", "drship").to(func(v *sections) any { return &v.WAN.LinkRate }).
			does("ceiling of everything sent on the link, in bytes and not bits a second; 0: none"),
		enum("wan", "fec", "auto", "drship", "auto", "on", "off").to(func(v *sections) any { return &v.WAN.FEC }).
			does("parity below QUIC, with which the receiver repairs what the line loses before QUIC slows down for it, at 5 to 15 % of what is sent, more on a slow line; auto: where max-stripes connections do not fill the line, as long as it brings something; both sides have to want it"),
		text("wan", "rate-schedule", "drship", func(s string) error { _, err := ParseRateSchedule(s); return err }).
			to(func(v *sections) any { return &v.WAN.RateSchedule }).
			does("link-rate by local time, the first rule that fits: \"mon-fri 08:00-18:00 20M; else 80M\""),
		number("wan", "max-stripes", "64", 1, 128, '1', "connections", "drship").to(func(v *sections) any { return &v.WAN.MaxStripes }).
			does("QUIC connections that a session may be spread over; it finds their number by itself, and needs one on a LAN"),
		span("wan", "lag-limit", "0", 0, 86400, time.Second, "drship").to(func(v *sections) any { return &v.WAN.LagLimit }).
			does("lag at which the handler lag-exceeded runs; 0: never"),
		span("wan", "peer-silent", "0", 0, 86400, time.Second, "drship").to(func(v *sections) any { return &v.WAN.PeerSilent }).
			does("silence of a peer after which the handler peer-silent runs; 0: never"),
	}
}

func proxyOptions() []Option {
	plugins := func(name string, note string) Option {
		o := Option{Section: "plugin", Name: name, Kind: Text, In: "8.3 8.4 9", check: checkPlugin}
		return o.does(note)
	}
	return []Option{
		number("proxy", "memlimit", "", 0, 1<<50, '1', "bytes", "8.3 8.4 9").to(func(v *sections) any { return &v.Proxy.MemLimit }).
			does("wan cache-size is not larger, where wan says nothing itself; what a proxy buffers is in the journal on disk"),
		number("proxy", "read-loops", "", 0, 1<<20, '1', "", "8.3 8.4").inert("drship needs no proxy"),
		number("proxy", "bwlimit", "", 0, 1<<50, '1', "bytes", "8.3 8.4 9").inert("LINBIT advises against it; use wan { link-rate … }"),
		number("proxy", "sndbuf-size", "0", 0, 1<<30, '1', "bytes", "8.4 9").inert("drship needs no proxy"),
		number("proxy", "rcvbuf-size", "0", 0, 1<<30, '1', "bytes", "8.4 9").inert("drship needs no proxy"),
		span("proxy", "ping-timeout", "", 0, 3000, tenth, "8.4 9").inert("drship needs no proxy; net { ping-timeout … } governs the link"),
		yesNoOption("proxy", "compression", "", "8.3 9").inert("wan { compression … } is on by itself"),
		plugins("zstd", "wan compression zstd and its level, where wan says nothing itself"),
		plugins("zlib", "wan compression zstd and level, where wan says nothing itself"),
		plugins("lzma", "wan compression zstd at level 19, where wan says nothing itself"),
		plugins("lz4", "wan compression s2, where wan says nothing itself"),
	}
}

// checkPlugin takes what stands behind a plugin's name: nothing, "level N", or contexts and dictionaries of lzma.
func checkPlugin(s string) error {
	words := strings.Fields(s)
	if s == "yes" {
		return nil
	}
	if len(words) == 2 && s == words[0]+" "+words[1] {
		n, err := parseNumber(words[1], '1')
		if err == nil && (words[0] == "level" && n <= 22 || words[0] == "contexts" || words[0] == "dictsize") {
			return nil
		}
	}
	return fmt.Errorf("'%s' is not understood; write level 0 to 22, or nothing", s)
}
