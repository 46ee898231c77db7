//! The little of a shell that the recorded command lines use: statements
//! separated by `;` and line ends, quotes, pipes, `>`, and `for` loops over
//! words.

/// Commands connected by pipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// The commands, each with its arguments; at least one, none empty.
    pub commands: Vec<Vec<String>>,
    /// Where the output of the last one goes, when not to the terminal.
    pub redirect: Option<String>,
}

/// Parses shell lines into the pipelines that they run, loops unrolled.
pub fn parse(text: &str) -> Result<Vec<Pipeline>, String> {
    let statements = split_statements(&tokens(text)?);
    let mut statements = statements.into_iter();
    let mut pipelines = Vec::new();
    while let Some(statement) = statements.next() {
        if !is_word(statement.first(), "for") {
            pipelines.push(pipeline(&statement)?);
            continue;
        }
        let (variable, items) = loop_head(&statement)?;
        let body = loop_body(&mut statements)?;
        for item in items {
            for statement in &body {
                pipelines.push(pipeline(&substitute(statement, &variable, &item))?);
            }
        }
    }
    Ok(pipelines)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Separator,
    Pipe,
    Redirect,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let operator = match character {
            '\'' | '"' => {
                let quoted: String = characters
                    .by_ref()
                    .take_while(|next| *next != character)
                    .collect();
                word.get_or_insert_default().push_str(&quoted);
                continue;
            }
            ';' | '\n' => Token::Separator,
            '|' => Token::Pipe,
            '>' => Token::Redirect,
            '&' | '<' | '`' | '(' | ')' => {
                return Err(format!("'{character}' in \"{text}\" is not understood"));
            }
            _ if character.is_whitespace() => {
                tokens.extend(word.take().map(Token::Word));
                continue;
            }
            _ => {
                word.get_or_insert_default().push(character);
                continue;
            }
        };
        tokens.extend(word.take().map(Token::Word));
        tokens.push(operator);
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

fn split_statements(tokens: &[Token]) -> Vec<Vec<Token>> {
    tokens
        .split(|token| *token == Token::Separator)
        .filter(|statement| !statement.is_empty())
        .map(<[Token]>::to_vec)
        .collect()
}

fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(found)) if found == word)
}

/// `for VARIABLE in ITEM...`
fn loop_head(statement: &[Token]) -> Result<(String, Vec<String>), String> {
    let words: Option<Vec<String>> = statement
        .iter()
        .map(|token| match token {
            Token::Word(word) => Some(word.clone()),
            _ => None,
        })
        .collect();
    match words.as_deref() {
        Some([_, variable, keyword, items @ ..]) if keyword == "in" => {
            Ok((variable.clone(), items.to_vec()))
        }
        _ => Err(format!("{statement:?} is no loop over words")),
    }
}

/// The statements from `do` to `done`.
fn loop_body(statements: &mut impl Iterator<Item = Vec<Token>>) -> Result<Vec<Vec<Token>>, String> {
    let mut body = Vec::new();
    let mut is_open = false;
    for mut statement in statements {
        if !is_open {
            if !is_word(statement.first(), "do") {
                return Err(format!("{statement:?} stands where \"do\" belongs"));
            }
            statement.remove(0);
            is_open = true;
        }
        if is_word(statement.first(), "done") {
            return Ok(body);
        }
        if !statement.is_empty() {
            body.push(statement);
        }
    }
    Err("a loop has no \"done\"".to_owned())
}

fn substitute(statement: &[Token], variable: &str, value: &str) -> Vec<Token> {
    let reference = format!("${variable}");
    statement
        .iter()
        .map(|token| match token {
            Token::Word(word) => Token::Word(word.replace(&reference, value)),
            other => other.clone(),
        })
        .collect()
}

fn pipeline(statement: &[Token]) -> Result<Pipeline, String> {
    let mut commands = vec![Vec::new()];
    let mut redirect = None;
    let mut tokens = statement.iter();
    while let Some(token) = tokens.next() {
        match (token, commands.last_mut()) {
            (Token::Word(word), Some(command)) => command.push(word.clone()),
            (Token::Redirect, _) => match tokens.next() {
                Some(Token::Word(path)) => redirect = Some(path.clone()),
                _ => return Err(format!("{statement:?} redirects to nothing")),
            },
            (Token::Pipe, _) => commands.push(Vec::new()),
            _ => {}
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(format!("{statement:?} has an empty command"));
    }
    Ok(Pipeline { commands, redirect })
}
