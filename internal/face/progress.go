package face

import (
	"fmt"
	"strings"

	"drship/internal/state"
)

const (
	blockShift = 12 // of a bit in DRBD's bitmap: 4 KiB
	barSteps   = 20
)

// perMille is DRBD's per mille done. It counts in units of 1024 blocks (65536 for volumes of 16 TiB and more), so it runs
// slightly ahead of the figures behind it.
func perMille(p *Progress) uint64 {
	total, left := p.Total>>blockShift, p.Left>>blockShift
	if left > total {
		return 0
	}
	shift := 10
	if total > 1<<32-1 {
		shift = 16
	}
	return 1000 - (left>>shift)*1000/(total>>shift+1)
}

// bar draws the 20 steps. The shape is DRBD's, with one dot too many before the first step; 0.7 drew one step more.
func bar(permille uint64, shape Shape) string {
	done := int(min(permille, 1000)) * barSteps / 1000
	if shape == Shape07 {
		return "[" + strings.Repeat("=", done) + ">" + strings.Repeat(".", max(barSteps-1-done, 0)) + "]"
	}
	return "[" + strings.Repeat("=", max(done-1, 0)) + ">" + strings.Repeat(".", barSteps-done) + "]"
}

// gauge is the first of the two progress lines, without its tab.
func gauge(p *Progress, shape Shape) string {
	word := "sync'ed"
	if p.Verify {
		word = "verified"
	}
	m := perMille(p)
	const megabytes = 4 << 30
	left, total, unit := p.Left/kib, p.Total/kib, "K"
	if p.Total > megabytes {
		left, total, unit = p.Left>>22<<2, p.Total>>22<<2, "M" // whole 4 MiB, as DRBD rounds
	}
	return fmt.Sprintf("%s %s:%3d.%d%% (%d/%d)%s", bar(m, shape), word, m/10, m%10, left, total, unit)
}

// ProgressLines are the two lines that /proc/drbd shows below a volume in a resync or verify, each with its tab and newline. The target
// rate is printed for the states in which this side sets it.
func ProgressLines(p *Progress, conn state.Conn, shape Shape) string {
	want := ""
	if conn == state.SyncTarget || conn == state.VerifyS {
		want = " want: " + grouped(p.Want)
	}
	stalled := ""
	if p.Stalled {
		stalled = " (stalled)"
	}
	if shape == Shape07 {
		want = ""
	}
	return fmt.Sprintf("\t%s\n\tfinish: %s speed: %s (%s)%s K/sec%s\n",
		gauge(p, shape), clock(p.ETA), grouped(p.Rate), grouped(p.AverageRate), want, stalled)
}

// ProgressBar is one line for a terminal of the given width in columns: bar, per cent, bytes, rate, time left. Below 40
// columns only the per cent are printed. It never ends in a newline.
func ProgressBar(p Progress, width int) string {
	done := p.Total - min(p.Left, p.Total)
	percent := 100.0
	if p.Total > 0 {
		percent = 100 * float64(done) / float64(p.Total)
	}
	if percent > 99.9 && p.Left > 0 {
		percent = 99.9 // 100 means done
	}
	short := fmt.Sprintf("%5.1f %%", percent)
	if width < 40 {
		return short
	}
	rest := fmt.Sprintf(" %s  %s of %s  %s/s  %s", short, Bytes(int64(done)), Bytes(int64(p.Total)), Bytes(p.Rate), timeLeft(&p))
	steps := min(width-len(rest)-2, 50)
	if steps < 5 {
		return strings.TrimSpace(rest)
	}
	full := int(float64(steps) * percent / 100)
	return "[" + strings.Repeat("=", full) + strings.Repeat(".", steps-full) + "]" + rest
}

func timeLeft(p *Progress) string {
	switch {
	case p.Left == 0:
		return "done"
	case p.Stalled:
		return "stalled"
	case p.ETA < 0:
		return "never at this rate"
	}
	return clock(p.ETA) + " left"
}
