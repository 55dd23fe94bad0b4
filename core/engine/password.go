package engine

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// asksAll is the pg_hba.conf of a database with a password, unless it was replaced: every client needs its role's password.
const asksAll = "local all all scram-sha-256\nhost all all all scram-sha-256\n"

// setPassword sets the password of the superuser that the database was made with. It writes only if PostgreSQL's stored verifier does not
// match, so a cold start normally writes nothing.
func (e *Engine) setPassword(ctx context.Context) error {
	if e.o.Password == "" {
		return nil
	}
	kept, err := e.Query(ctx, "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE oid = 10")
	if err != nil {
		return fmt.Errorf("check whether the superuser's password is set: %w", err)
	}
	if len(kept) != 1 || len(kept[0].Rows) != 1 {
		return errors.New("check whether the superuser's password is set: there is no role with oid 10")
	}
	name, verifier := kept[0].Rows[0][0], kept[0].Rows[0][1]
	if same, err := verifies(verifier, e.o.Password); err != nil || same {
		return err
	}
	if verifier, err = newVerifier(e.o.Password); err != nil {
		return err
	}
	// PostgreSQL gets only the verifier, so the password itself appears in none of its logs.
	_, err = e.Query(ctx, fmt.Sprintf(`ALTER ROLE "%s" PASSWORD '%s'`, strings.ReplaceAll(name, `"`, `""`), verifier))
	if err != nil {
		return fmt.Errorf("set the superuser's password: %w", err)
	}
	e.o.Logger.Info("the superuser's password was set", "role", name)
	return nil
}

// A verifier as PostgreSQL stores it: mechanism$iterations:salt$stored key:server key.
const (
	mechanism  = "SCRAM-SHA-256"
	iterations = 4096 // PostgreSQL's scram_iterations
	saltBytes  = 16
)

// newVerifier makes a verifier for a password.
func newVerifier(password string) (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("prepare the password: %w", err)
	}
	keys, err := derive(password, string(salt), iterations)
	if err != nil {
		return "", err
	}
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", mechanism, iterations, encode(salt), encode(keys.StoredKey), encode(keys.ServerKey)), nil
}

// verifies says whether a verifier matches a password. One of another mechanism, or an empty one (no password), never does.
func verifies(verifier, password string) (bool, error) {
	parts := strings.FieldsFunc(verifier, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != mechanism {
		return false, nil
	}
	rounds, err := strconv.Atoi(parts[1])
	if err != nil || rounds < 1 {
		return false, nil
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return false, nil
	}
	stored, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return false, nil
	}
	keys, err := derive(password, string(salt), rounds)
	return err == nil && hmac.Equal(keys.StoredKey, stored), err
}

func derive(password, salt string, rounds int) (scram.StoredCredentials, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err == nil {
		var keys scram.StoredCredentials
		if keys, err = client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: rounds}); err == nil {
			return keys, nil
		}
	}
	return scram.StoredCredentials{}, fmt.Errorf("prepare the password: %w", err)
}
