package pair

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Prepare fills in what a command was not told: a scratch folder, called after the command, and the program, built into it.
func Prepare(ctx context.Context, command string, dir, binary *string, race bool) error {
	if *dir == "" {
		made, err := os.MkdirTemp("", "drship-"+command+"-")
		if err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		*dir = made
	}
	if *binary == "" {
		bin, err := Build(ctx, *dir, race)
		if err != nil {
			return err
		}
		*binary = bin
	}
	return nil
}

// Pause waits, unless ctx ends before.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
