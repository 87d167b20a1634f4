package face

import (
	"strings"
	"testing"
	"time"

	"drship/internal/state"
)

// What drbdmeta 9.22 printed of a v08 bitmap with these runs.
func TestDumpLaysOutTheBitmapAsRecorded(t *testing.T) {
	runs := [][2]uint64{{1, 3}, {2, 6}, {3, 7}, {4, 9}, {5, 13}, {0, 40}, {7, 1}, {0, 33}, {8, 1}, {0, 399}}
	want := `bm {
   # at 0kB
    0x0000000000000001; 0x0000000000000001; 0x0000000000000001; 0x0000000000000002;
    0x0000000000000002; 0x0000000000000002; 0x0000000000000002; 0x0000000000000002;
    0x0000000000000002; 0x0000000000000003; 0x0000000000000003; 0x0000000000000003;
    0x0000000000000003; 0x0000000000000003; 0x0000000000000003; 0x0000000000000003;
    0x0000000000000004; 0x0000000000000004; 0x0000000000000004; 0x0000000000000004;
    0x0000000000000004; 0x0000000000000004; 0x0000000000000004; 0x0000000000000004;
    0x0000000000000004; 0x0000000000000005; 0x0000000000000005; 0x0000000000000005;
    0x0000000000000005; 0x0000000000000005; 0x0000000000000005; 0x0000000000000005;
   # at 8192kB
    0x0000000000000005; 0x0000000000000005; 0x0000000000000005; 0x0000000000000005;
    0x0000000000000005; 0x0000000000000005; 0x0000000000000000; 0x0000000000000000;
    36 times 0x0000000000000000;
    0x0000000000000000; 0x0000000000000000; 0x0000000000000007; 0x0000000000000000;
    32 times 0x0000000000000000;
    0x0000000000000008; 0x0000000000000000; 0x0000000000000000; 0x0000000000000000;
    396 times 0x0000000000000000;
}
# bits-set 62;
`
	m := MetaDump{Time: time.Unix(1795179793, 0), Node: "alice", Command: "drship dump-md r0/0", Where: "x", IDs: state.Created(), ALExtents: 257,
		Size: 204800 * 512, Blocks: 62, Words: func(fn func(uint64, uint64)) {
			for _, r := range runs {
				fn(r[0], r[1])
			}
		}}
	var b strings.Builder
	if err := m.Dump(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if i := strings.Index(got, "bm {"); i < 0 || got[i:] != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	head := "# DRBD meta data dump\n# 2026-11-20 13:03:13 +0000 [1795179793]\n# alice> drship dump-md r0/0\n#\n\nversion \"v08\";\n"
	if !strings.HasPrefix(got, head) || !strings.Contains(got, "uuid {\n    0x0000000000000004; 0x0000000000000000; 0x0000000000000000; 0x0000000000000000;\n    flags 0x00000000;\n}\n# al-extents 257;\nla-size-sect 204800;\n") {
		t.Errorf("head:\n%s", got)
	}
}

// What drbdmeta printed after create-md, and after a crash.
func TestShowGIAsRecorded(t *testing.T) {
	frame := func(line, foot string) string { return giHead + line + "\n" + giFoot + foot }
	for want, g := range map[string]GI{
		frame("0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0", "flags: Secondary, StandAlone, Inconsistent\nmeta-data: clean\nzero size device -- never seen peer yet?\n"): {IDs: state.Created(), Disk: state.Inconsistent, Clean: true},
		frame("2CC51FDC765D6190:0000000000000000:4FE0DBE74A8BC653:4FDFDBE74A8BC653:0:0:0:0:0:0:1", "flags: crashed Secondary, StandAlone, Inconsistent\nmeta-data: need apply-al\nlast agreed size: 2048 MB (4194104 sectors)\n"): {
			IDs: state.IDs{Current: 0x2CC51FDC765D6190, History: [2]uint64{0x4FE0DBE74A8BC653, 0x4FDFDBE74A8BC653}}, Disk: state.Inconsistent, CrashedPrimary: true, Size: 4194104 * 512},
		frame("2CC51FDC765D6190:0000000000000000:0000000000000001:0000000000000002:1:0:1:1:1:1:1", "flags: crashed Primary, Connected, Outdated, need full sync, peer Outdated\nmeta-data: clean\nzero size device -- never seen peer yet?\n"): {
			IDs: state.IDs{Current: 0x2CC51FDC765D6190, History: [2]uint64{1, 2}}, Disk: state.Outdated, Primary: true, Connected: true, FullSync: true, PeerOutdated: true, CrashedPrimary: true, Clean: true},
	} {
		var b strings.Builder
		if err := g.Explain(&b); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("got\n%s\nwant\n%s", b.String(), want)
		}
	}
}
