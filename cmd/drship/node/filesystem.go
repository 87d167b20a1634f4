package node

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// probeTimeout bounds how long the look for a file system may take.
const probeTimeout = 10 * time.Second

// filesystem names what blkid (util-linux) finds on a disk: "ext4", "LVM2_member"; "" where it finds nothing, or is not there.
func filesystem(ctx context.Context, path string) string {
	tool := ""
	for _, name := range []string{"blkid", "/usr/sbin/blkid", "/sbin/blkid"} {
		if p, err := exec.LookPath(name); err == nil {
			tool = p
			break
		}
	}
	if tool == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// DRBD's own metadata at the end would make what is found ambiguous.
	out, err := exec.CommandContext(ctx, tool, "-p", "-n", "nodrbd", "-s", "TYPE", "-o", "value", "--", path).Output()
	if err != nil {
		return ""
	}
	kind, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return kind
}

func foundFilesystem(kind, path string) string {
	what := kind
	if !strings.Contains(kind, "_") { // LVM2_member, linux_raid_member and the like hold something else
		what += " filesystem"
	}
	return fmt.Sprintf("Found %s on %s, kept in place", what, path)
}
