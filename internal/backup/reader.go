package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// ReaderCommand is the argument with which this program runs [Serve], as the user of the
// role whose files are read.
const ReaderCommand = "backup-reader"

// maxSource bounds what a reader is told, in bytes.
const maxSource = 64 << 10

// Read is [Write] by a process of the user who owns the directory, when this one is root:
// it can read what the role itself can read and no more.
func Read(ctx context.Context, w io.Writer, s Source) (*Manifest, error) {
	uid, gid, err := owner(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	if me := os.Geteuid(); me != 0 || uid == 0 {
		if me != 0 && uid != uint32(me) {
			return nil, fmt.Errorf("back up: %s belongs to user %d: run this as root or as that user", s.Dir, uid)
		}
		return Write(ctx, w, s)
	}
	return readAs(ctx, w, s, &syscall.Credential{Uid: uid, Gid: gid})
}

func owner(dir string) (uid, gid uint32, err error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return 0, 0, fmt.Errorf("%s is no directory", dir)
	}
	return st.Uid, st.Gid, nil
}

func readAs(ctx context.Context, w io.Writer, s Source, as *syscall.Credential) (*Manifest, error) {
	told, err := json.Marshal(&s)
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	result, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	defer result.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", ReaderCommand)
	cmd.Dir, cmd.Env = "/", environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = bytes.NewReader(told), w, []*os.File{theirs}
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Start()
	_ = theirs.Close() // the reader has it
	if err != nil {
		return nil, fmt.Errorf("back up: start reader: %w", err)
	}
	text, errRead := io.ReadAll(io.LimitReader(result, maxManifest))
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if words := strings.TrimSpace(said.String()); words != "" {
			return nil, errors.New(words[:min(len(words), maxMessage)])
		}
		return nil, fmt.Errorf("back up: reader: %w", err)
	}
	var m Manifest
	if err := errors.Join(errRead, json.Unmarshal(text, &m)); err != nil {
		return nil, fmt.Errorf("back up: reader: %w", err)
	}
	return &m, nil
}

// Serve is the reader: it is told a Source on in, writes the archive to out and the
// manifest to its third file.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	told, err := io.ReadAll(io.LimitReader(in, maxSource))
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	var s Source
	if err := json.Unmarshal(told, &s); err != nil {
		return errors.New("back up: this command is started by bulkhead backup itself")
	}
	m, err := Write(ctx, out, s)
	if err != nil {
		return err
	}
	result := os.NewFile(3, "result")
	_, err = result.Write(marshal(m))
	return errors.Join(err, result.Close())
}
