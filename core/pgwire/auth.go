package pgwire

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

const (
	mechanism  = "SCRAM-SHA-256"
	iterations = 4096 // PostgreSQL's scram_iterations
	// authDelay is how long the answer to a wrong password takes.
	authDelay = time.Second
)

// verifier checks a password without keeping it.
type verifier struct{ server *scram.Server }

// newVerifier derives what is needed to check a password. The user name in SCRAM is ignored, as PostgreSQL does.
func newVerifier(password string) (*verifier, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return nil, fmt.Errorf("prepare the password: %w", err)
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("prepare the password: %w", err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return nil, fmt.Errorf("prepare the password: %w", err)
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		return nil, fmt.Errorf("prepare the password: %w", err)
	}
	return &verifier{server}, nil
}

// authenticate asks for the password.
func (c *client) authenticate() error {
	err := c.sasl()
	var f *failed
	if err == nil || errors.As(err, &f) && f.code == "08P01" || errors.Is(err, io.EOF) {
		return err
	}
	// Whatever was wrong with it, the answer is the same, and late.
	if err := c.clock.Sleep(c.ctx, authDelay); err != nil {
		return err
	}
	return failure("28P01", "password authentication failed for user %q", c.user)
}

func (c *client) sasl() error {
	if err := c.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{mechanism}}); err != nil {
		return err
	}
	body, err := c.passwordMessage()
	if err != nil {
		return err
	}
	var first pgproto3.SASLInitialResponse
	if err := first.Decode(body); err != nil {
		return failure("08P01", "the SASL response cannot be read: %v", err)
	}
	if first.AuthMechanism != mechanism {
		return failure("08P01", "SASL mechanism %.40q was not offered", first.AuthMechanism)
	}
	conversation := c.srv.verifier.server.NewConversation()
	answer, err := conversation.Step(string(first.Data))
	if err != nil {
		return fmt.Errorf("first SCRAM message: %w", err)
	}
	if err := c.say(&pgproto3.AuthenticationSASLContinue{Data: []byte(answer)}); err != nil {
		return err
	}
	if body, err = c.passwordMessage(); err != nil {
		return err
	}
	answer, err = conversation.Step(string(body))
	if err != nil {
		return fmt.Errorf("final SCRAM message: %w", err)
	}
	if !conversation.Valid() {
		return errors.New("the SCRAM proof is wrong")
	}
	c.out, err = (&pgproto3.AuthenticationSASLFinal{Data: []byte(answer)}).Encode(c.out)
	return err
}

// say sends a message of the start-up at once.
func (c *client) say(m pgproto3.BackendMessage) (err error) {
	if c.out, err = m.Encode(c.out); err != nil {
		return err
	}
	return c.flush()
}

// passwordMessage reads a message of type p, without its header.
func (c *client) passwordMessage() ([]byte, error) {
	var kind [1]byte
	if _, err := io.ReadFull(c.conn, kind[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", io.EOF, err)
	}
	if kind[0] != 'p' {
		return nil, failure("08P01", "message %q where a password was expected", kind[0])
	}
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", io.EOF, err)
	}
	n := uint32(head[0])<<24 | uint32(head[1])<<16 | uint32(head[2])<<8 | uint32(head[3])
	if n < 4 || n > maxPassword {
		return nil, failure("08P01", "a password message of %d bytes", n)
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, fmt.Errorf("%w: %w", io.EOF, err)
	}
	return body, nil
}
