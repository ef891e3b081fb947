//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/jail"
)

// role locks this program down as a daemon role with what the arguments name (ro=PATH, rw=PATH, bind=PORT, connect=PORT,
// any, children) and returns its tries. With children it first prepares a spawner that starts this same program.
func role(conn *os.File, args []string) map[string]try {
	config := jail.RoleConfig{Name: "test"}
	var missing []string
	for _, argument := range args {
		key, value, _ := strings.Cut(argument, "=")
		port, _ := strconv.ParseUint(value, 10, 16)
		switch key {
		case "ro":
			config.ReadOnly = append(config.ReadOnly, value)
		case "rw":
			config.ReadWrite = append(config.ReadWrite, value)
		case "bind":
			config.Bind = append(config.Bind, uint16(port))
		case "connect":
			config.Connect = append(config.Connect, uint16(port))
		case "any":
			config.AnyConnect = true
		case "children":
			config.Spawner, missing = newSpawner()
		}
	}
	report, err := jail.Lockdown(jail.Role(config))
	if err != nil {
		fatal(exitLockdown, err)
	}
	if len(report.Missing()) > 0 {
		fmt.Fprintf(os.Stderr, "missing: %+v\n", report.Missing())
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		fatal(exitUsage, err)
	}
	tries := allTries()
	tries["child"] = func(argument string) (string, error) { return startChild(config.Spawner, argument) }
	tries["layers"] = func(string) (string, error) { return strings.Join(missing, ", "), nil }
	tries["stay"] = func(string) (string, error) {
		p, err := config.Spawner.Start(context.Background(), jail.KindSandbox)
		if err != nil {
			return "", err
		}
		_, err = p.Conn.Read(make([]byte, 100))
		return fmt.Sprintf("process %d", p.PID), err
	}
	tries["end-child"] = func(string) (string, error) {
		p, err := config.Spawner.Start(context.Background(), jail.KindSandbox)
		if err != nil {
			return "", err
		}
		_, hello := p.Conn.Read(make([]byte, 100))
		if err := errors.Join(hello, p.Kill()); err != nil {
			return "", err
		}
		return p.Wait().Reason.String(), nil
	}
	return tries
}

// newSpawner also returns the names of the layers that are missing.
func newSpawner() (*jail.Spawner, []string) {
	image, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		fatal(exitUsage, err)
	}
	s, report, err := jail.NewSpawner(jail.SpawnerConfig{Worker: image, Sandbox: image, MaxChildren: 16})
	if err != nil {
		fatal(exitUsage, err)
	}
	var missing []string
	for _, layer := range report.Missing() {
		missing = append(missing, layer.Name+": "+layer.Detail)
	}
	return s, missing
}

// startChild starts a worker and lets it make a try; the answer is the child's, or why it ended.
func startChild(s *jail.Spawner, name string) (string, error) {
	p, err := s.Start(context.Background(), jail.KindWorker)
	if err != nil {
		return "", err
	}
	lines := bufio.NewReader(p.Conn)
	hello, err := lines.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no hello but %q: %w, %+v", hello, err, p.Wait())
	}
	if _, err := fmt.Fprintf(p.Conn, "try %s\n", name); err != nil {
		return "", err
	}
	status := namespaces(p.PID)
	answer, err := lines.ReadString('\n')
	if err != nil {
		answer = "ended"
	}
	if err := p.Conn.Close(); err != nil {
		return "", err
	}
	exit := p.Wait()
	return fmt.Sprintf("%s; %s; %s", strings.TrimSpace(answer), exit.Reason, status), nil
}

// namespaces shows that a locked-down runner cannot look at its children.
func namespaces(pid int) string {
	if _, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil {
		return "unseen"
	}
	return "seen"
}
