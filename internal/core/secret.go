package core

// Secret is what an environment variable of a launch gets from a secret store, on its way to the sandbox. It is in no record.
type Secret struct {
	EnvVar string
	Value  SecretValue
}

// SecretValue is a text that prints, and is written as JSON, as what it is and not as what it says: a log or an error that it gets into by mistake has none
// of it. string(v) is the text.
type SecretValue string

const hiddenSecret = "(secret)"

// String hides the value.
func (SecretValue) String() string { return hiddenSecret }

// GoString hides the value.
func (SecretValue) GoString() string { return hiddenSecret }

// MarshalText hides the value.
func (SecretValue) MarshalText() ([]byte, error) { return []byte(hiddenSecret), nil }
