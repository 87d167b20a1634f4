package verb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"drship/cmd/drship/control"

	"github.com/spf13/cobra"
)

const (
	// nbdSocketName is the socket of the node's exports in its run directory.
	nbdSocketName = "nbd.sock"
	// attachTimeout bounds how long attaching may take.
	attachTimeout = 30 * time.Second
)

func (a *app) device() *cobra.Command {
	return family("device", groupNode, "Attach volumes as kernel devices (/dev/nbdN)",
		"Attaches a volume to a block device of the kernel, through its nbd module. Clients that speak NBD need no device: their address is <run-dir>/nbd.sock.",
		"  drship device attach r0\n  drship device detach r0", a.deviceAttach(), a.deviceDetach())
}

func (a *app) deviceAttach() *cobra.Command {
	var foreground bool
	var timeout secondsValue
	cmd := &cobra.Command{
		Use:   "attach {RES|RES/VOL} [/dev/nbdN]",
		Short: "Attach a volume to a kernel device",
		Long: "Attaches a volume to the given device or to the first free one, and prints its name. A process that holds the connection stays in the " +
			"background until drship device detach.",
		Example:           "  drship device attach r0\n  drship device attach r0/1 /dev/nbd5",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeNames,
	}
	cmd.Flags().BoolVar(&foreground, "foreground", false, "stay in the foreground until the device is detached")
	cmd.Flags().Var(&timeout, "timeout", "fail a request that is not answered for `SECONDS`; 0 waits for ever")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil || t.resource == control.All || t.peer != "" {
			return &usageError{err: fmt.Errorf("%q is not a volume: want RES or RES/VOL", args[0]), command: cmd.CommandPath()}
		}
		k := defaultKernel()
		device := ""
		if len(args) > 1 {
			device = args[1]
		}
		if device, err = k.pick(device); err != nil {
			return err
		}
		if foreground {
			return a.holdDevice(cmd.Context(), k, exportName(t), device, time.Duration(timeout))
		}
		return a.spawnHolder(cmd.Context(), args[0], device, timeout)
	}
	return cmd
}

// exportName is the NBD name of a volume.
func exportName(t target) string {
	if t.volume <= 0 {
		return t.resource
	}
	return fmt.Sprintf("%s/%d", t.resource, t.volume)
}

// holdDevice attaches and stays until the device is detached, by verb or by signal.
func (a *app) holdDevice(ctx context.Context, k kernel, export, device string, timeout time.Duration) error {
	h, err := k.attach(ctx, filepath.Join(a.node.RunDir, nbdSocketName), export, device, timeout)
	if err != nil {
		return err
	}
	note := a.deviceNote(device)
	if err := os.WriteFile(note, []byte(export+"\n"), 0o600); err != nil {
		return errors.Join(fmt.Errorf("remember device: %w", err), h.release())
	}
	defer os.Remove(note)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan struct{})
	var ended error
	go func() {
		defer close(served)
		ended = h.serve(ctx)
	}()
	err = k.ready(ctx, device, h.size, served)
	if err == nil {
		_, err = fmt.Fprintln(a.deps.Stdout, device)
	}
	if err != nil {
		cancel()
	}
	<-served
	return errors.Join(err, ended)
}

// deviceNote is the file that tells which export a device carries.
func (a *app) deviceNote(device string) string {
	return filepath.Join(a.node.RunDir, filepath.Base(device)+".export")
}

// spawnHolder runs this program again in a session of its own, and returns once that has the device.
func (a *app) spawnHolder(ctx context.Context, volume, device string, timeout secondsValue) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	cmd := exec.Command(self, "device", "attach", volume, device, "--foreground", "--timeout", timeout.String(), "--run-dir", a.node.RunDir, "--node", a.node.Node)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start holder of the device: %w", err)
	}
	errs, err := os.CreateTemp("", "drship-device-*")
	if err != nil {
		return fmt.Errorf("start holder of the device: %w", err)
	}
	defer errs.Close()
	defer os.Remove(errs.Name())
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start holder of the device: %w", err)
	}
	defer context.AfterFunc(ctx, func() { out.Close() })()
	line, err := bufio.NewReader(io.LimitReader(out, 4096)).ReadString('\n')
	if err == nil {
		_, err = fmt.Fprint(a.deps.Stdout, line)
		return errors.Join(err, cmd.Process.Release())
	}
	return a.holderFailed(ctx, cmd, errs)
}

// holderFailed passes on what the holder said.
func (a *app) holderFailed(ctx context.Context, cmd *exec.Cmd, errs *os.File) error {
	if ctx.Err() != nil {
		return errors.Join(&control.Error{Text: "attaching took too long", Exit: exitTimeout}, cmd.Process.Kill(), cmd.Wait())
	}
	err := cmd.Wait()
	if _, serr := errs.Seek(0, io.SeekStart); serr != nil {
		return errors.Join(err, serr)
	}
	text, rerr := io.ReadAll(io.LimitReader(errs, 64<<10))
	if len(strings.TrimSpace(string(text))) == 0 {
		return errors.Join(fmt.Errorf("holder of the device ended: %w", err), rerr)
	}
	fmt.Fprint(a.deps.Stderr, string(text))
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
		return quiet(e.ExitCode())
	}
	return quiet(exitFailed)
}

func (a *app) deviceDetach() *cobra.Command {
	return &cobra.Command{
		Use:               "detach {RES|RES/VOL|/dev/nbdN}",
		Short:             "Detach a kernel device",
		Example:           "  drship device detach r0\n  drship device detach /dev/nbd0",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			device, err := a.deviceOf(args[0])
			if err != nil {
				return err
			}
			return defaultKernel().detach(device)
		},
	}
}

// deviceOf finds the device that carries a volume.
func (a *app) deviceOf(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return name, nil
	}
	t, err := parseTarget(name)
	if err != nil {
		return "", &usageError{err: err, command: "drship device detach"}
	}
	notes, err := filepath.Glob(filepath.Join(a.node.RunDir, "nbd*.export"))
	if err != nil {
		return "", fmt.Errorf("look for devices: %w", err)
	}
	for _, note := range notes {
		text, err := os.ReadFile(note)
		if err == nil && strings.TrimSpace(string(text)) == exportName(t) {
			return "/dev/" + strings.TrimSuffix(filepath.Base(note), ".export"), nil
		}
	}
	return "", &control.Error{What: name, Text: "is not attached to a kernel device", Exit: exitUsage}
}
