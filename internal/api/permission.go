package api

import (
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Permission is what a route needs. Every route has exactly one.
type Permission string

// The permissions.
const (
	PermissionServerRead        Permission = "server.read"
	PermissionCustomersRead     Permission = "customers.read"
	PermissionCustomersWrite    Permission = "customers.write"
	PermissionIntegrationsRead  Permission = "integrations.read"
	PermissionIntegrationsWrite Permission = "integrations.write"
	PermissionInstancesRead     Permission = "instances.read"
	PermissionInstancesWrite    Permission = "instances.write"
	PermissionHooksRead         Permission = "hooks.read" // addresses of webhooks, which are secrets
	PermissionConnectionsRead   Permission = "connections.read"
	PermissionConnectionsWrite  Permission = "connections.write"
	PermissionOrganizationWrite Permission = "organization.write" // how it looks to customers, and its OAuth clients
	PermissionExecutionsRead    Permission = "executions.read"    // metadata
	PermissionExecutionsView    Permission = "executions.view"    // payloads and logs
	PermissionExecutionsRun     Permission = "executions.run"     // start, cancel, retry, replay
	PermissionExecutionsTest    Permission = "executions.test"    // test runs
	PermissionTokensManage      Permission = "tokens.manage"      // of everybody
	PermissionMetricsRead       Permission = "metrics.read"
)

// Role is a named set of permissions.
type Role string

// The roles. A role has what [Grants] lists and nothing else.
const (
	RoleAdmin    Role = "admin"    // everything
	RoleOperator Role = "operator" // runs integrations for customers
	RoleBuilder  Role = "builder"  // makes integrations
	RoleViewer   Role = "viewer"   // sees metadata, no payloads and no addresses of webhooks
)

// Grants lists the permissions of a role; none for a role that does not exist.
func Grants(r Role) []Permission {
	viewer := []Permission{
		PermissionServerRead, PermissionCustomersRead, PermissionIntegrationsRead, PermissionInstancesRead,
		PermissionConnectionsRead, PermissionExecutionsRead, PermissionMetricsRead,
	}
	switch r {
	case RoleViewer:
		return viewer
	case RoleBuilder:
		return append(viewer, PermissionIntegrationsWrite, PermissionExecutionsTest, PermissionExecutionsView, PermissionHooksRead)
	case RoleOperator:
		return append(viewer, PermissionCustomersWrite, PermissionInstancesWrite, PermissionHooksRead, PermissionConnectionsWrite,
			PermissionExecutionsRun, PermissionExecutionsTest, PermissionExecutionsView)
	case RoleAdmin:
		return append(viewer, PermissionCustomersWrite, PermissionIntegrationsWrite, PermissionInstancesWrite, PermissionHooksRead,
			PermissionConnectionsWrite, PermissionExecutionsRun, PermissionExecutionsTest, PermissionExecutionsView, PermissionTokensManage, PermissionOrganizationWrite)
	}
	return nil
}

// principal is who makes a request.
type principal struct {
	Org   id.Org
	Token id.Token // zero on this machine's own socket
	Role  Role
}

// may reports whether the principal has a permission.
func (p *principal) may(x Permission) bool { return slices.Contains(Grants(p.Role), x) }
