package config

// aliases are the names of older lines, and of a few documents, with what they are called today.
func aliases() []alias {
	out := []alias{
		// 8.3's and 0.7's flags that say no
		{section: "net", name: "no-tcp-cork", toSection: "net", toName: "tcp-cork", fixed: "no", in: "8.3"},
		{section: "disk", name: "no-disk-barrier", toSection: "disk", toName: "disk-barrier", fixed: "no", in: "8.3"},
		{section: "disk", name: "no-disk-flushes", toSection: "disk", toName: "disk-flushes", fixed: "no", in: "8.3"},
		{section: "disk", name: "no-disk-drain", toSection: "disk", toName: "disk-drain", fixed: "no", in: "8.3"},
		{section: "disk", name: "no-md-flushes", toSection: "disk", toName: "md-flushes", fixed: "no", in: "8.3"},
		// moved between sections
		{section: "disk", name: "fencing", toSection: "net", toName: "fencing", in: "8.3 8.4"},
		{section: "handlers", name: "outdate-peer", toSection: "handlers", toName: "fence-peer", in: "8.3"},
		{section: "resource", name: "incon-degr-cmd", toSection: "handlers", toName: "pri-on-incon-degr", in: "0.7"},
		{section: "resource", name: "protocol", toSection: "net", toName: "protocol", in: "0.7 8.3"},
		// as documents have it
		{section: "disk", name: "sync-rate", toSection: "disk", toName: "resync-rate", in: "documents",
			note: "sync-rate is no name that DRBD ever had; it is read as resync-rate"},
		// on-io-error panic left DRBD with 8.0
		{section: "disk", name: "on-io-error", toSection: "disk", toName: "on-io-error", in: "0.7",
			values: map[string]string{"panic": "call-local-io-error"},
			note:   "drship cannot panic the machine; panic is read as call-local-io-error: set handlers { local-io-error … } to what shall happen"},
		// gone without a successor
		{section: "net", name: "on-disconnect", drop: true, in: "0.7", note: "0.7's on-disconnect is gone: a lost peer is always reconnected"},
		{section: "disk", name: "use-bmbv", drop: true, in: "8.3", note: "there are no bios in user space"},
		{section: "global", name: "disable-io-hints", drop: true, in: "0.7", note: "there is no I/O stack to hint at"},
	}
	for _, s := range []struct{ old, section, name string }{
		{"rate", "disk", "resync-rate"}, {"after", "disk", "resync-after"}, {"al-extents", "disk", "al-extents"},
		{"c-plan-ahead", "disk", "c-plan-ahead"}, {"c-fill-target", "disk", "c-fill-target"},
		{"c-delay-target", "disk", "c-delay-target"}, {"c-max-rate", "disk", "c-max-rate"}, {"c-min-rate", "disk", "c-min-rate"},
		{"verify-alg", "net", "verify-alg"}, {"csums-alg", "net", "csums-alg"}, {"use-rle", "net", "use-rle"},
		{"cpu-mask", "options", "cpu-mask"}, {"on-no-data-accessible", "options", "on-no-data-accessible"},
	} {
		out = append(out, alias{section: "syncer", name: s.old, toSection: s.section, toName: s.name, in: "0.7 8.3"})
	}
	for _, s := range []struct{ old, note string }{
		{"group", "0.7's groups are gone: use disk { resync-after … } to put one resync behind another"},
		{"skip-sync", "a resync is never skipped; see new-current-uuid --clear-bitmap"},
		{"delay-probe-volume", "8.3's delay probes are gone"},
		{"delay-probe-interval", "8.3's delay probes are gone"},
		{"throttle-threshold", "8.3's delay probes are gone"},
		{"hold-off-threshold", "8.3's delay probes are gone"},
	} {
		out = append(out, alias{section: "syncer", name: s.old, drop: true, in: "0.7 8.3", note: s.note})
	}
	return out
}
