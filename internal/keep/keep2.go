package keep

import (
	_ "github.com/nats-io/jwt/v2"
	_ "github.com/nats-io/nkeys"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/text/encoding/htmlindex"
)
