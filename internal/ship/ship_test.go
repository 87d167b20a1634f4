package ship

import (
	"testing"
	"time"

	"drship/internal/block"
)

func seq(n uint64) block.Seq { return block.Seq{Epoch: 1 << 32, Num: n} }

func TestMarksAck(t *testing.T) {
	start := Marks{Trimmed: seq(1), Applied: seq(2), Staged: seq(3), Received: seq(4), Sent: seq(10), Appended: seq(12)}
	tests := []struct {
		name                      string
		received, staged, applied block.Seq
		want                      Marks
		bad                       bool
	}{
		{name: "forward", received: seq(9), staged: seq(8), applied: seq(7),
			want: Marks{seq(1), seq(7), seq(8), seq(9), seq(10), seq(12)}},
		{name: "overtaken changes nothing", received: seq(3), staged: seq(2), applied: seq(1), want: start},
		{name: "more than was sent", received: seq(11), staged: seq(8), applied: seq(7), want: start, bad: true},
		{name: "staged beyond received", received: seq(5), staged: seq(6), applied: seq(2), want: start, bad: true},
		{name: "applied beyond staged", received: seq(6), staged: seq(5), applied: seq(6), want: start, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := start
			err := m.Ack(tt.received, tt.staged, tt.applied)
			if (err != nil) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if m != tt.want {
				t.Errorf("marks %+v, want %+v", m, tt.want)
			}
		})
	}
}

func TestMarksRewind(t *testing.T) {
	m := Marks{Staged: seq(3), Received: seq(4), Sent: seq(10), Appended: seq(12)}
	if err := m.Rewind(seq(3)); err == nil {
		t.Error("went back behind what the peer has received")
	}
	if m.Sent != seq(10) {
		t.Error("a refused rewind moved the mark")
	}
	if err := m.Rewind(seq(4)); err != nil || m.Sent != seq(4) {
		t.Errorf("rewind to received: %v, sent %v", err, m.Sent)
	}
	if err := m.Rewind(seq(13)); err == nil {
		t.Error("rewound to a record that was never written")
	}
}

func TestPlanBatchGrowsWithBacklog(t *testing.T) {
	last := 0
	for _, backlog := range []int64{-1, 0, 1 << 20, 16 << 20, deepBacklog, 1 << 40} {
		got := PlanBatch(backlog)
		if got.Bytes < last || got.Bytes < smallBatch || got.Bytes > largeBatch || got.Records != maxRecords {
			t.Errorf("backlog %d: %+v after %d", backlog, got, last)
		}
		last = got.Bytes
	}
	if last != largeBatch {
		t.Errorf("deep backlog gives %d bytes, want %d", last, largeBatch)
	}
}

func TestResyncPace(t *testing.T) {
	const mb = 1_000_000
	tests := []struct {
		name string
		in   PaceInput
		want int64
	}{
		{"network is slower", PaceInput{Disk: 180 * mb, Network: 110 * mb}, 33 * mb},
		{"disk is slower", PaceInput{Disk: 80 * mb, Network: 110 * mb}, 24 * mb},
		{"the peer's disk is slower", PaceInput{Disk: 180 * mb, PeerDisk: 60 * mb, Network: 110 * mb}, 18 * mb},
		{"the peer's disk is faster", PaceInput{Disk: 80 * mb, PeerDisk: 200 * mb, Network: 110 * mb}, 24 * mb},
		{"only the peer's disk is known", PaceInput{PeerDisk: 60 * mb}, 18 * mb},
		{"only the disk is known", PaceInput{Disk: 100 * mb}, 30 * mb},
		{"only the network is known", PaceInput{Network: 100 * mb}, 30 * mb},
		{"nothing is known", PaceInput{}, 0},
		{"configured", PaceInput{Fixed: 7, Disk: 80 * mb}, 7},
		{"set for now", PaceInput{Temporary: 5, Fixed: 7, Disk: 80 * mb}, 5},
		{"never zero, which means unlimited", PaceInput{Disk: 1}, 1},
	}
	for _, tt := range tests {
		if got := ResyncPace(tt.in); got.Rate != tt.want || got.Why == "" {
			t.Errorf("%s: %+v, want rate %d", tt.name, got, tt.want)
		}
	}
}

func TestGather(t *testing.T) {
	atRest := Marks{Staged: seq(9), Received: seq(9), Sent: seq(9)}
	underWay := Marks{Staged: seq(7), Received: seq(7), Sent: seq(9)}
	received := Marks{Staged: seq(7), Received: seq(9), Sent: seq(9)}
	tests := []struct {
		name     string
		protocol byte
		marks    Marks
		backlog  int64
		since    time.Duration
		want     time.Duration
	}{
		{"first after a pause", 'A', atRest, 4096, time.Second, 0},
		{"soon after the last", 'A', atRest, 4096, time.Millisecond, gatherFree - time.Millisecond},
		{"enough has gathered", 'A', underWay, smallBatch, 0, 0},
		{"B, nothing under way", 'B', atRest, 4096, 0, 0},
		{"B, the last one is under way", 'B', underWay, 4096, 0, gatherHeld},
		{"B, the last one arrived", 'B', received, 4096, 0, 0},
		{"C, nothing under way", 'C', atRest, 4096, 0, 0},
		{"C, the last one arrived", 'C', received, 4096, 0, gatherHeld},
		{"C, the last one is under way for long", 'C', underWay, 4096, gatherHeld, 0},
		{"C, enough has gathered", 'C', underWay, smallBatch, 0, 0},
	}
	for _, tt := range tests {
		if got := Gather(tt.protocol, tt.marks, tt.backlog, tt.since, 0); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := Gather('A', atRest, 4096, time.Millisecond, 50*time.Millisecond); got != gatherFar-time.Millisecond {
		t.Errorf("far: %v", got)
	}
	if got := Gather('C', received, 4096, 0, 50*time.Millisecond); got != gatherHeld {
		t.Errorf("C, far: %v", got)
	}
}
