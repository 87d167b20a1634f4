package face

import (
	"fmt"
	"io"

	"drship/internal/state"
)

// GI is what drbdmeta 8.4 tells of the metadata of a volume against a peer.
type GI struct {
	IDs  state.IDs
	Disk state.Disk // of the data here
	Size int64      // bytes; 0 if it was never agreed on

	Primary, Connected, FullSync, PeerOutdated, CrashedPrimary bool
	Clean                                                      bool // the activity log needs not be applied
	Attached                                                   bool // the resource is attached: its metadata is in use
}

const giHead = `
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
`

const giFoot = `                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+

`

// Line is what get-gi prints: the four identifiers, then seven flags.
func (g GI) Line() string {
	text := g.IDs.String()
	for _, on := range []bool{g.Disk > state.Inconsistent, g.Disk == state.UpToDate, g.Primary, g.Connected, g.FullSync, g.PeerOutdated, g.CrashedPrimary} {
		if on {
			text += ":1"
		} else {
			text += ":0"
		}
	}
	return text
}

// Explain prints what show-gi does.
func (g GI) Explain(w io.Writer) error {
	role, link, disk, clean := "Secondary", "StandAlone", "Inconsistent", "clean"
	if g.CrashedPrimary {
		role = "crashed Secondary"
		if g.Primary {
			role = "crashed Primary"
		}
	} else if g.Primary {
		role = "Primary"
	}
	if g.Connected {
		link = "Connected"
	}
	switch {
	case g.Disk == state.UpToDate:
		disk = "UpToDate"
	case g.Disk > state.Inconsistent:
		disk = "Outdated"
	}
	if g.FullSync {
		disk += ", need full sync"
	}
	if g.PeerOutdated {
		disk += ", peer Outdated"
	}
	if !g.Clean {
		clean = "need apply-al"
	}
	size := "zero size device -- never seen peer yet?\n"
	switch {
	case g.Attached: // drbdsetup answers then, which tells neither
		clean, size = "need apply-al", ""
	case g.Size > 0:
		size = fmt.Sprintf("last agreed size: %s (%d sectors)\n", metaSize(g.Size), g.Size/512)
	}
	_, err := fmt.Fprintf(w, "%s%s\n%sflags: %s, %s, %s\nmeta-data: %s\n%s", giHead, g.Line(), giFoot, role, link, disk, clean, size)
	return err
}

// metaSize prints a size as drbdmeta does: rounded, in the largest unit that leaves less than five digits.
func metaSize(bytes int64) string {
	units := []string{"KB", "MB", "GB", "TB", "PB"}
	n, i := bytes/1024, 0
	for n >= 10000 && i < len(units)-1 {
		n = (n + 512) / 1024
		i++
	}
	return fmt.Sprintf("%d %s", n, units[i])
}

// Flags are those of Line as DRBD 8.4 stores them.
func (g GI) Flags() uint32 {
	var flags uint32
	for i, on := range []bool{g.Disk > state.Inconsistent, g.Primary, g.Connected, g.FullSync, g.Disk == state.UpToDate, g.PeerOutdated, g.CrashedPrimary, g.Clean} {
		if on {
			flags |= 1 << i
		}
	}
	return flags
}
