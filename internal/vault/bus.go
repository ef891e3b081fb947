package vault

import (
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// answerTime is how long the receiver of a message may answer it, once.
const answerTime = 2 * time.Minute

// signBus makes the JWTs of the operator and of the one account. Anything that the
// platform does not use is not allowed: JetStream, leaf nodes, imports, exports,
// bearer tokens.
func (v *Vault) signBus() error {
	operator, err := v.operator.PublicKey()
	if err != nil {
		return fmt.Errorf("sign operator: %w", err)
	}
	account, err := v.account.PublicKey()
	if err != nil {
		return fmt.Errorf("sign account: %w", err)
	}
	o := jwt.NewOperatorClaims(operator)
	o.Name = "bulkhead"
	if v.operatorJWT, err = o.Encode(v.operator); err != nil {
		return fmt.Errorf("sign operator: %w", err)
	}
	a := jwt.NewAccountClaims(account)
	a.Name = "bulkhead"
	a.Limits.Imports, a.Limits.Exports, a.Limits.WildcardExports = 0, 0, false
	a.Limits.LeafNodeConn = 0
	a.Limits.DisallowBearer = true
	if v.accountJWT, err = a.Encode(v.operator); err != nil {
		return fmt.Errorf("sign account: %w", err)
	}
	return nil
}

// userJWT makes the NATS user of an identity: exactly the row of the matrix. The bus
// itself connects to nothing and gets none.
func (v *Vault) userJWT(i *lease.Identity) (string, error) {
	if i.Role == wire.RoleBus {
		return "", nil
	}
	user, err := nkeys.Encode(nkeys.PrefixByteUser, i.Sign[:])
	if err != nil {
		return "", fmt.Errorf("sign user: %w", err)
	}
	p := wire.PermissionsOf(i.Role, i.Node)
	c := jwt.NewUserClaims(string(user))
	c.Name = i.Node.String()
	c.Expires = i.Expires.Unix()
	c.Sub.Allow = p.Subscribe
	c.Pub.Allow = p.Publish
	if len(p.Publish) == 0 && !off(emptyDenied) {
		c.Pub.Deny.Add(">") // an empty allow list would allow everything
	}
	if len(p.Subscribe) == 0 {
		c.Sub.Deny.Add(">")
	}
	if p.Answers {
		c.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: answerTime}
	}
	c.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)
	token, err := c.Encode(v.account)
	if err != nil {
		return "", fmt.Errorf("sign user: %w", err)
	}
	return token, nil
}
